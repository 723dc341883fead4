"""Cameras by an RTSP server that is not ours: GStreamer's, where the system has it."""

from __future__ import annotations

import time

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


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_server_of_another_project(kind: str) -> None:
    with rtsp_server(SOURCE + PIPELINES[kind]) as address, LiveReader(parse_source(address).to_input()) as camera:
        frames = []
        ends_at = time.monotonic() + 30
        while len(frames) < 30 and time.monotonic() < ends_at and camera.grab():
            frames.append(camera.retrieve(32))
    assert len(frames) == 30
    grey = frames[-1][4:16, 1:4].astype(int)
    yellow = frames[-1][4:16, 6:8].astype(int)
    assert abs(grey - grey.mean()).max() < 12
    assert yellow[..., :2].mean() > yellow[..., 2].mean() + 100
