"""Cameras by an RTSP server that is not ours: GStreamer's, where the system has it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from testing.rtsp_server import has_gstreamer, rtsp_server
from vdeploy.live.source import parse_source
from vdeploy.video.live_reader import LiveReader

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def gstreamer() -> None:
    if not has_gstreamer():
        pytest.skip("the system has no GStreamer RTSP server with x264enc and x265enc")


SOURCE = (
    "videotestsrc is-live=true num-buffers=100 pattern=smpte"
    " ! video/x-raw,format=I420,width=320,height=240,framerate=50/1 ! "
)
PIPELINES = {
    "H.264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0",
    "interlaced H.264": "interlace field-pattern=1:1 ! x264enc interlaced=true bframes=0 speed-preset=ultrafast"
    " key-int-max=10 ! rtph264pay name=pay0",
    "HEVC": "x265enc speed-preset=ultrafast key-int-max=10 ! rtph265pay name=pay0",
    "Motion JPEG": "jpegenc ! rtpjpegpay name=pay0",
}

ENCODED = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! h264parse"
LOSSY = f"{ENCODED} ! identity drop-probability=0.1 ! rtph264pay config-interval=-1 name=pay0"
GROWS = (
    "concat name=both ! rtph264pay config-interval=-1 name=pay0 "
    + SOURCE.replace("=100 ", "=20 ")
    + f"{ENCODED} ! both. "
    + SOURCE.replace("width=320,height=240", "width=640,height=480").replace("smpte", "white")
    + f"{ENCODED} ! both."
)


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_server_of_another_project(kind: str) -> None:
    frames = read(SOURCE + PIPELINES[kind], 30)
    assert_colour_bars(frames[-1])


def test_a_server_whose_packets_are_lost() -> None:
    frames = read(SOURCE + LOSSY, 40)
    assert_colour_bars(frames[-1])


def test_a_server_that_changes_the_resolution() -> None:
    frames = read(GROWS, 50)
    assert_colour_bars(frames[0])
    assert frames[-1].min() > 220


def read(pipeline: str, count: int) -> list[np.ndarray]:
    """Frames of a camera."""
    frames: list[np.ndarray] = []
    with rtsp_server(pipeline) as address, LiveReader(parse_source(address).to_input()) as camera:
        ends_at = time.monotonic() + 30
        while len(frames) < count and time.monotonic() < ends_at and camera.grab():
            frames.append(camera.retrieve(32))
    assert len(frames) == count
    return frames


def assert_colour_bars(frame: np.ndarray) -> None:
    grey = frame[4:16, 1:3].astype(int)
    yellow = frame[4:16, 6:8].astype(int)
    assert abs(grey - grey.mean()).max() < 12
    assert yellow[..., :2].mean() > yellow[..., 2].mean() + 100
