"""Files that refer to other files or to the network, or hold more pixels than their header states."""

from __future__ import annotations

import fractions
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from testing.streams import mjpeg_server
from testing.videos import numbered_frame, solid_frame, write_numbered
from tests.gateway.test_gateway_decoding import SPEC, job, refusal
from vdeploy.core.errors import ClipError
from vdeploy.gateway.decoding import pool
from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import DecoderPool
from vdeploy.gateway.problems import Problem
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import read_clip
from vdeploy.video.formats import self_contained_formats
from vdeploy.video.live_reader import LiveInput
from vdeploy.video.workers.limits import DecodingLimits

PLAN = WindowPlan.of(4, 1.0)


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderPool]:
    pool = DecoderPool(1, patience_s=20)
    yield pool
    pool.close()


def refused_samples(decoders: DecoderPool, wanted: Job) -> str:
    with pytest.raises(Problem) as caught:
        list(decoders.samples(wanted))
    return caught.value.code


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile SECRET\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nSECRET\n#EXT-X-ENDLIST\n",
    "hls of an address": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nADDRESS\n#EXT-X-ENDLIST\n",
    "concat protocol": "concat:SECRET|SECRET",
    "dash": '<MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet>'
    "<Representation><BaseURL>ADDRESS</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "dash behind a byte": '\x01<MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"/>ADDRESS',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video PORT RTP/AVP 96\n",
    "vobsub": "# VobSub index file, v7\nSECRET\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist>ADDRESS</CompositionPlaylist>',
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["", ".mp4", ".m3u8", ".mpd", ".sdp"])
def test_playlists_are_refused_before_anything_that_they_name_is_opened(
    decoders: DecoderPool, tmp_path: Path, kind: str, suffix: str
):
    secret = write_numbered(tmp_path / "secret.mp4", 30)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        content = PLAYLISTS[kind].replace("SECRET", str(secret)).replace("PORT", str(port))
        path = tmp_path / f"upload{suffix}"
        path.write_text(content.replace("ADDRESS", f"http://127.0.0.1:{port}/a.mp4"))
        assert refusal(decoders, job(path)) == "unreadable_video"
        assert refused_samples(decoders, job(path, PLAN)) == "unreadable_video"
        with pytest.raises(ClipError):
            read_clip(path, SPEC)
        with pytest.raises(TimeoutError):
            server.accept()


def test_formats_that_refer_to_others_are_not_opened():
    formats = set(self_contained_formats().split(","))
    assert {"mov", "avi", "matroska", "mpegts", "flv", "asf", "gif", "mjpeg", "h264", "mpeg"} <= formats
    assert not {"hls", "dash", "concat", "sdp", "rtsp", "image2", "lavfi", "video4linux2"} & formats


def test_a_frame_that_is_larger_than_the_header_says_is_refused(decoders: DecoderPool, tmp_path: Path):
    path = tmp_path / "growing.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        small, large = (jpeg(solid_frame((90, 90, 90), *size)) for size in ((64, 48), (1280, 720)))
        for number in range(50):
            packet = av.Packet(small if number < 10 else large)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = fractions.Fraction(1, 25), True
            container.mux(packet)
    assert read_clip(path, SPEC).decoded_frames == 50
    limited = {"pixels": 400_000}
    assert refusal(decoders, job(path, **limited)) == "resolution_too_high"
    assert refused_samples(decoders, job(path, WindowPlan.of(4, 0.2), **limited)) == "resolution_too_high"


def jpeg(pixels: np.ndarray) -> bytes:
    height, width = pixels.shape[:2]
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = fractions.Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx265"),
        ("a.webm", "libvpx-vp9"),
        ("a.webm", "libaom-av1"),
        ("a.webm", "libsvtav1"),
        ("a.mp4", "mpeg4"),
        ("a.mpg", "mpeg2video"),
        ("a.avi", "mjpeg"),
        ("a.mkv", "ffv1"),
        ("a.avi", "rawvideo"),
        ("a.mov", "prores_ks"),
        ("a.flv", "flv1"),
        ("a.wmv", "wmv2"),
        ("a.gif", "gif"),
        ("a.ts", "mpeg2video"),
        ("a.ogv", "libtheora"),
        ("a.mov", "dnxhd"),
    ],
)
def test_confined_processes_decode_every_codec_as_this_process_does(
    decoders: DecoderPool, tmp_path: Path, name: str, codec: str
):
    path = tmp_path / name
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        write(path, codec)
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"this FFmpeg has no encoder for it ({error})")
    finally:  # SVT-AV1 gives the thread of its caller, if that is root, the highest real-time priority
        os.sched_setscheduler(0, policy, priority)
    found, expected = decoders.clip(job(path)), read_clip(path, SPEC)
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert found.count == expected.decoded_frames


def write(path: Path, codec: str) -> None:
    width, height = (1280, 720) if codec == "dnxhd" else (64, 48)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = width, height
        formats = [one.name for one in stream.codec_context.codec.video_formats or ()]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else formats[0] if formats else "yuv420p"
        if codec == "dnxhd":
            stream.pix_fmt, stream.bit_rate = "yuv422p", 120_000_000
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, width, height), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())


def test_a_confined_process_finds_a_camera_by_its_name(video: Path):
    decoder = DecoderPool(1, network=True)
    try:
        with mjpeg_server(video, fps=25) as camera:
            address = f"http://localhost:{camera.port}/"
            samples = decoder.samples(
                Job(address, SPEC, DecodingLimits().for_camera(), PLAN, LiveInput("door", address))
            )
            assert next(samples)[1].shape == (32, 32, 3)
            samples.close()
    finally:
        decoder.close()


def test_what_a_system_cannot_protect_is_logged_once(caplog: pytest.LogCaptureFixture):
    pool._report_missing.cache_clear()
    with caplog.at_level("WARNING", "vdeploy.gateway"):
        for _ in range(3):
            pool._report_missing(("no Landlock", "no seccomp"))
    told = [record.fields["missing"] for record in caplog.records if record.message == "confinement_incomplete"]
    assert told == ["no Landlock", "no seccomp"]
