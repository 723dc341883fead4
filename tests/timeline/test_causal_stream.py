"""Streams of a causal backbone: each frame is computed once, with the frames of its stream before it and no others."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vdeploy.core.errors import RecipeError
from vdeploy.export.onnx.convert import stream_to_onnx
from vdeploy.inference.causal import Causal, ClipsAsStreams, Stepper
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of
from vdeploy.models.shift_settings import past_frames
from vdeploy.models.shift_stream import ShiftStream
from vdeploy.models.weights.find import Weights
from vdeploy.timeline.sliding import Sample, SlidingExtractor
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import ClipSpec

pytestmark = pytest.mark.slow

BACKBONE = {
    "name": "efficientnet-lite0",
    "weights": "random",
    "temporal_shift": {"direction": "past", "blocks": ["blocks.13", "blocks.14"]},
}
RANDOM = Weights("random", None, "0" * 64)
FRAMES, LENGTH, SIZE = 30, 8, 32


def extractor(frames: int = LENGTH, **changed: Any) -> FeatureExtractor:
    return FeatureExtractor(backbone_of({**BACKBONE, **changed}), RANDOM, ClipSpec(frames=frames, size=SIZE))


class Counted:
    """A runtime, or whole clips, that count the frames that they are given."""

    def __init__(self, runtime: OnnxRuntime, clips: FeatureExtractor, *, frame_by_frame: bool) -> None:
        self._runtime, self._clips, self.stepped, self.whole = runtime, clips, 0, 0
        length = ShiftStream(clips).length
        self.granularity = clips.granularity
        self.causal = Causal(2, Stepper(lambda: self, length) if frame_by_frame else None)

    def infer(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        self.stepped += inputs["frames"].shape[1]
        return self._runtime.infer(inputs)

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.whole += frames.shape[0] * frames.shape[1]
        return self._clips.extract(frames)


@pytest.fixture(scope="module")
def video() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(video: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Features of the whole video as one clip."""
    return extractor(FRAMES).extract(video[np.newaxis])[0]


@pytest.fixture(scope="module")
def clips() -> FeatureExtractor:
    return extractor()


@pytest.fixture(scope="module")
def runtime(clips: FeatureExtractor, tmp_path_factory: pytest.TempPathFactory) -> OnnxRuntime:
    file: Path = tmp_path_factory.mktemp("stream") / "model.onnx"
    file.write_bytes(stream_to_onnx(clips).SerializeToString())
    return OnnxRuntime(file, threads=1)


@pytest.fixture(params=[True, False], ids=["frame by frame", "whole clips"])
def counted(request: pytest.FixtureRequest, runtime: OnnxRuntime, clips: FeatureExtractor) -> Counted:
    return Counted(runtime, clips, frame_by_frame=request.param)


def windows_of(
    counted: Counted, plan: WindowPlan, samples: list[Sample[str]], batch: int = 1
) -> dict[tuple[str, int], npt.NDArray[np.float32]]:
    """Features of all windows by stream and first sampled frame."""
    sliding: SlidingExtractor[str] = SlidingExtractor(counted, plan)
    found: dict[tuple[str, int], npt.NDArray[np.float32]] = {}
    for start in range(0, len(samples), batch):
        for stream, due in sliding.push(samples[start : start + batch]):
            found[stream, due.first] = sliding.features([due])[0]
    for stream in {sample.stream for sample in samples}:
        if last := sliding.end(stream):
            found[stream, last.first] = sliding.features([last])[0]
    return found


@pytest.mark.parametrize(("stride", "batch"), [(1, 1), (3, 5), (4, 16), (11, 30)])
def test_windows_hold_the_features_of_one_long_clip(
    counted: Counted, video: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32], stride: int, batch: int
) -> None:
    samples = [Sample("a", index, frame) for index, frame in enumerate(video)]
    found = windows_of(counted, WindowPlan(LENGTH, 2.0, stride), samples, batch)
    assert sorted(first for _, first in found) == sorted({*range(0, FRAMES - LENGTH + 1, stride), FRAMES - LENGTH})
    for (_, first), features in found.items():
        np.testing.assert_allclose(features, expected[first : first + LENGTH], atol=1e-4)
    assert counted.stepped == (FRAMES if counted.causal.stepper else 0)
    assert bool(counted.whole) is (counted.causal.stepper is None)


def test_a_window_by_itself_differs_in_as_many_frames_as_blocks_are_shifted(
    clips: FeatureExtractor, video: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]
) -> None:
    alone = clips.extract(video[np.newaxis, 5 : 5 + LENGTH])[0]
    differs = np.abs(alone - expected[5 : 5 + LENGTH]).max(axis=-1) > 1e-3 * np.abs(expected).max()
    assert differs.tolist() == [True, True] + [False] * (LENGTH - 2)
    first = clips.extract(video[np.newaxis, :LENGTH])[0]
    np.testing.assert_allclose(first, expected[:LENGTH], atol=1e-4)


def test_streams_do_not_mix_and_begin_anew_after_a_gap(
    counted: Counted, clips: FeatureExtractor, video: npt.NDArray[np.uint8]
) -> None:
    plan, gap = WindowPlan(LENGTH, 2.0, LENGTH), 100
    one = [Sample("a", index, video[index]) for index in range(LENGTH)]
    other = [Sample("b", index, video[index]) for index in reversed(range(LENGTH))]
    other = [Sample("b", index, sample.frame) for index, sample in enumerate(other)]
    later = [Sample("a", gap + index, video[LENGTH + index]) for index in range(LENGTH)]
    mixed = [*itertools.chain(*zip(one, other, strict=True)), *later]
    found = windows_of(counted, plan, mixed, 7)
    for key, frames in {("a", 0): one, ("b", 0): other, ("a", gap): later}.items():
        alone = clips.extract(np.stack([sample.frame for sample in frames])[np.newaxis])[0]
        np.testing.assert_allclose(found[key], alone, atol=1e-4)


def test_a_frame_stands_for_those_that_are_missing_after_it(
    counted: Counted, video: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]
) -> None:
    taken = [0, 1, 2, 5, 6, 7]
    samples = [Sample("a", index, video[place]) for place, index in enumerate(taken)]
    (features,) = windows_of(counted, WindowPlan(LENGTH, 2.0, 1), samples).values()
    np.testing.assert_allclose(features, expected[[0, 1, 2, 2, 2, 3, 4, 5]], atol=1e-4)


def test_a_stream_that_is_shorter_than_a_window_is_spread_over_it(
    counted: Counted, video: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]
) -> None:
    samples = [Sample("a", index, video[index]) for index in range(4)]
    (features,) = windows_of(counted, WindowPlan(LENGTH, 2.0, 1), samples).values()
    np.testing.assert_allclose(features, expected[[0, 0, 1, 1, 2, 2, 3, 3]], atol=1e-4)


def test_clips_are_computed_as_streams_of_their_frames(
    clips: FeatureExtractor, runtime: OnnxRuntime, video: npt.NDArray[np.uint8]
) -> None:
    batch = video[: 2 * LENGTH].reshape(2, LENGTH, SIZE, SIZE, 3)
    streams = ClipsAsStreams(Stepper(lambda: runtime, ShiftStream(clips).length))
    np.testing.assert_allclose(streams.infer({"frames": batch})["features"], clips.extract(batch), atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "frames", "past"),
    [
        ({}, LENGTH, 2),
        ({"temporal_shift": None}, LENGTH, 0),
        ({"temporal_shift": {"direction": "both", "blocks": ["blocks.13", "blocks.14"]}}, LENGTH, None),
        ({"region": "motion"}, LENGTH, None),
        ({}, 3, 2),
        ({}, 2, None),
    ],
)
def test_only_frames_that_depend_on_few_before_them_make_a_stream(
    changed: dict[str, Any], frames: int, past: int | None
) -> None:
    backbone = backbone_of({**BACKBONE, **changed})
    assert past_frames(backbone.granularity, backbone.stage_settings, frames) == past


def test_a_damaged_manifest_is_one_line() -> None:
    with pytest.raises(RecipeError, match="temporal_shift is not as a training writes it: 'past'; train again"):
        past_frames("clip", {"temporal_shift": "past"}, LENGTH)


def test_a_backbone_without_a_streaming_form_is_refused() -> None:
    with pytest.raises(ValueError, match="has no streaming form"):
        ShiftStream(extractor(temporal_shift=None))
