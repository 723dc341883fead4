"""Letterboxing: the same frames for clips, timelines, cameras and the gateway; kept in manifests, not the default."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import numpy as np
import pytest

from testing.streams import mjpeg_server
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import numbered_frame, solid_frame, write_video
from training.recipe import load_recipe
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RecipeError
from vdeploy.detector import detect
from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import DecoderPool
from vdeploy.inference.in_process import LocalScorer
from vdeploy.live.source import parse_source, parse_sources
from vdeploy.live.watcher import watch
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.arrival_sampling import ArrivalSampler
from vdeploy.video.clips import ClipSpec
from vdeploy.video.live_reader import LiveReader
from vdeploy.video.pictures import resize
from vdeploy.video.workers.clips import decode_clip
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.live_samples import open_live

FPS, FRAMES, SIZE = 8, 8, 32
WINDOW_S = FRAMES / FPS


class Recording(LocalScorer):
    """Keeps the frames that it is asked about."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.seen: list[np.ndarray] = []

    def extract(self, frames: np.ndarray) -> np.ndarray:
        self.seen += list(frames.reshape(-1, *frames.shape[2:]))
        return super().extract(frames)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [numbered_frame(number, 96, 40) for number in range(FRAMES)]
    return write_video(tmp_path_factory.mktemp("wide") / "v.mp4", frames, fps=FPS)


def in_the_middle(frame: np.ndarray) -> bool:
    """Whether a letterboxed picture of 96 x 40 lies between black bars."""
    return not frame[:9].any() and not frame[22:].any() and bool(frame[9:22].any())


def test_predict_timeline_watch_and_gateway_see_the_same_frames(video: Path, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle", frames=FRAMES, size=SIZE, fit="letterbox")
    spec = bundle.manifest.clip_spec
    clip = decode_clip(video, spec).frames
    assert all(map(in_the_middle, clip))

    timeline, watched = Recording(bundle), Recording(bundle)
    detect(video, timeline, window_s=WINDOW_S)
    np.testing.assert_array_equal(timeline.seen, clip)
    list(watch(parse_sources([str(video)]), lambda: contextlib.nullcontext(watched), window_s=WINDOW_S))
    known = {frame.tobytes() for frame in clip}
    assert len(watched.seen) >= FRAMES // 2
    assert {frame.tobytes() for frame in watched.seen} <= known

    pool = DecoderPool(1, patience_s=20)
    try:
        plan = WindowPlan.of(FRAMES, WINDOW_S)
        np.testing.assert_array_equal(pool.clip(Job(str(video), spec, DecodingLimits())).frames, clip)
        samples = pool.samples(Job(str(video), spec, DecodingLimits(), plan))
        np.testing.assert_array_equal([frame for _, frame in samples], clip)
    finally:
        pool.close()


def test_cameras_are_letterboxed_as_files_are(video: Path) -> None:
    with mjpeg_server(video) as server:
        source = parse_source(f"http://127.0.0.1:{server.port}/").to_input()
        with LiveReader(source) as camera:
            assert camera.grab()
            squeezed, boxed = camera.retrieve(SIZE), camera.retrieve(SIZE, "letterbox")
        with open_live(source, ArrivalSampler(FPS), SIZE, threading.Event(), "letterbox") as samples:
            decoded_apart = next(samples).frame
    assert squeezed is not None
    assert squeezed[:9].any()
    assert boxed is not None
    assert in_the_middle(boxed)
    assert in_the_middle(decoded_apart)


@pytest.mark.parametrize(("width", "height"), [(40, 96), (96, 41), (10, 30), (4000, 2), (320, 240)])
def test_the_aspect_ratio_is_kept(width: int, height: int) -> None:
    box = resize(solid_frame((200, 100, 50), width, height), SIZE, "letterbox")
    shown = np.any(box, axis=2)
    rows, columns = np.any(shown, axis=1).sum(), np.any(shown, axis=0).sum()
    longest = max(width, height)
    assert (rows, columns) == (max(1, round(height * SIZE / longest)), max(1, round(width * SIZE / longest)))
    top, left = np.argmax(np.any(shown, axis=1)), np.argmax(np.any(shown, axis=0))
    assert (top, left) == ((SIZE - rows) // 2, (SIZE - columns) // 2)
    np.testing.assert_array_equal(box[shown], np.broadcast_to([200, 100, 50], (rows * columns, 3)))


def test_square_pictures_have_no_bars() -> None:
    picture = numbered_frame(7, 64, 64)
    np.testing.assert_array_equal(resize(picture, SIZE, "letterbox"), resize(picture, SIZE))


def test_what_was_written_before_reads_as_squeezed() -> None:
    old = {"frames": 16, "size": 224, "sampling": "uniform", "interpolation": "area"}
    spec = ClipSpec.from_dict(dict(old))
    assert (spec.fit, spec.to_dict()) == ("squeeze", old)
    boxed = ClipSpec(fit="letterbox")
    assert ClipSpec.from_dict(boxed.to_dict()) == boxed
    assert boxed.digest != spec.digest == ClipSpec().digest


def test_a_recipe_names_it() -> None:
    recipe = load_recipe("edge", ["clip.fit=letterbox"])
    assert recipe.clip_spec.fit == "letterbox"
    assert recipe.identity["clip"]["fit"] == "letterbox"
    assert "fit" not in load_recipe("edge", []).identity["clip"]
    with pytest.raises(RecipeError, match=r"clip\.fit"):
        load_recipe("edge", ["clip.fit=stretch"])
    with pytest.raises(ValueError, match="fit must be 'squeeze' or 'letterbox', not 'stretch'"):
        ClipSpec(fit="stretch")  # type: ignore[arg-type]
