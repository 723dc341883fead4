"""A backbone that looks where things move."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.region import CELLS, LEAST_SIDE, SEEN, crop, motion_square
from vdeploy.models.registry import backbone_of
from vdeploy.video.clips import ClipSpec

SIZE = 2 * CELLS


def scene(*, frames: int = 6, start: int = 60, height: int = 20, seed: int = 0) -> np.ndarray:
    """A grey, slightly noisy scene in which a bright square goes from left to right, ``float32[T, S, S, 3]``."""
    random = np.random.default_rng(seed)
    clip = np.full((frames, SIZE, SIZE, 3), 90.0) + random.normal(0, 1, (frames, SIZE, SIZE, 3))
    for number in range(frames):
        left = start + 4 * number
        clip[number, start : start + height, left : left + 20] = 220
    return clip.clip(0, 255).astype(np.float32)


def square_of(*clips: np.ndarray) -> np.ndarray:
    """Left, top and side of each clip, ``[N, 3]``, in pixels."""
    found = motion_square(load_tensorflow().constant(np.stack(clips)))
    return np.concatenate([np.asarray(value) for value in found], axis=1) * SIZE


def test_the_square_holds_what_moves() -> None:
    left, top, side = square_of(scene())[0]
    assert SIZE * LEAST_SIDE - 0.01 <= side < 60
    assert left <= 64
    assert left + side >= 96
    assert top <= 62
    assert top + side >= 78


def test_the_square_lies_within_the_frame() -> None:
    left, top, side = square_of(scene(start=2))[0]
    assert left >= 0
    assert top == pytest.approx(0, abs=1)
    assert left + side <= SIZE + 1e-3


@pytest.mark.parametrize("clip", [scene()[:1].repeat(6, axis=0), scene()[:1]], ids=["still", "one frame"])
def test_where_nothing_moves_the_whole_frame_is_seen(clip: np.ndarray) -> None:
    np.testing.assert_allclose(square_of(clip)[0], (0, 0, SIZE), atol=1e-3)


def test_noise_and_a_change_of_light_do_not_count() -> None:
    dark = np.full((6, SIZE, SIZE, 3), 90.0) + np.random.default_rng(1).normal(0, 4, (6, SIZE, SIZE, 3))
    flicker = dark + np.arange(6)[:, None, None, None] % 2 * 30
    for clip in (dark, flicker):
        np.testing.assert_allclose(square_of(clip.astype(np.float32))[0], (0, 0, SIZE), atol=SIZE * 0.1)


def test_clips_of_a_batch_do_not_depend_on_each_other() -> None:
    clips = scene(), scene(start=20, seed=1), scene()[:1].repeat(6, axis=0)
    np.testing.assert_allclose(square_of(*clips), [square_of(clip)[0] for clip in clips], atol=1e-2)


def test_a_crop_is_what_opencv_makes_of_it() -> None:
    cv2 = pytest.importorskip("cv2")
    tf = load_tensorflow()

    def square(*values: float) -> tuple:
        return tuple(tf.constant([[value]], tf.float32) for value in values)

    clip = np.random.default_rng(0).integers(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    left, top, side = 0.2, 0.4, 0.5
    found = crop(tf.constant(clip[None]), square(left, top, side), SIZE)
    shift = np.array([left, top]) * SIZE + side / 2 - 0.5
    matrix = np.array([[side, 0, shift[0]], [0, side, shift[1]]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = [cv2.warpAffine(frame, matrix, (SIZE, SIZE), flags=flags) for frame in clip]
    # OpenCV rounds positions to 1/32 of a pixel.
    assert np.abs(found[0].numpy() - expected)[:, 4:-4, 4:-4].mean() < 2.0
    whole = crop(tf.constant(clip[None]), square(0.0, 0.0, 1.0), SIZE)
    np.testing.assert_allclose(whole[0], clip, atol=1e-2)
    # A pattern of pixels in turn is grey where it is made smaller, not one of its colours.
    pattern = np.zeros((1, 1, SIZE, SIZE, 3), np.float32)
    pattern[..., ::2, :] = 200
    smaller = crop(tf.constant(pattern), square(0.0, 0.0, 1.0), SIZE // 4)
    np.testing.assert_allclose(smaller, np.full((1, 1, SIZE // 4, SIZE // 4, 3), 100), atol=15)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames"), [("i3d", 16), ("efficientnet-lite0", 4)])
def test_both_are_the_features_of_the_frame_and_of_the_square(name: str, frames: int) -> None:
    spec = ClipSpec(frames=frames, size=SIZE)
    settings = {"name": name, "weights": "random"}
    clips = np.stack([scene(frames=frames), scene(frames=frames, start=20)]).astype(np.uint8)
    found = {}
    for region in ("full", "motion", "both"):
        backbone = backbone_of({**settings, "region": region})
        extractor = FeatureExtractor(backbone, backbone.find_weights(), spec)
        found[region] = extractor.extract(clips)
        assert found[region].shape[1:] == extractor.shape
    expected = np.concatenate([found["full"], found["motion"]], axis=2)
    np.testing.assert_allclose(found["both"], expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(found["full"], found["motion"])


def test_settings_of_a_manifest_lead_back() -> None:
    backbone = backbone_of({"name": "vgg19", "weights": "random"}, "both")
    assert backbone.stage_settings == {"layer": "avg", "weights": "random", "region": "both"}
    again = backbone_of({"name": backbone.name, **backbone.stage_settings})
    assert again.cache_key == backbone.cache_key == "avg region=both"
    assert again.granularity == "clip"
    assert again.model_name == "vgg19_features"
    assert backbone_of({"name": "vgg19"}).cache_key == "avg"
    assert "region" not in backbone_of({"name": "vgg19"}).stage_settings


def test_a_region_that_does_not_exist() -> None:
    with pytest.raises(RecipeError, match="there is no region 'people'; known: full, motion, both"):
        backbone_of({"name": "vgg19"}, "people")


@pytest.mark.slow
def test_larger_frames_cost_the_backbone_nothing() -> None:
    backbone = backbone_of({"name": "efficientnet-lite0", "weights": "random", "region": "both"})
    spec = ClipSpec(frames=2, size=SEEN + 32)
    extractor = FeatureExtractor(backbone, backbone.find_weights(), spec)
    clips = np.random.default_rng(0).integers(0, 256, (1, 2, spec.size, spec.size, 3), np.uint8)
    assert extractor.extract(clips).shape == (1, 2, 2 * 1280)
    (network,) = [layer for layer in extractor.network.layers if len(layer.weights) > 1]
    assert network.input.shape[1:] == (SEEN, SEEN, 3)
