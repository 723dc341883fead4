"""What the one decoder makes of files that are unlike most: made here with PyAV, without the ffmpeg program."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from testing.corpus.raw_avi import write_raw_avi
from testing.videos import drop_tail, numbered_frame, read_number, show_mp4, solid_frame, write_numbered, write_video
from vdeploy.core.errors import ClipError
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clip_duration import median_seconds
from vdeploy.video.clips import ClipSpec, read_clip
from vdeploy.video.reader import VideoReader
from vdeploy.video.wanted_frames import frame_indices

SMALL = ClipSpec(size=32)


def pictures(path: Path) -> list[np.ndarray]:
    with VideoReader(path, threading.Event()) as reader:
        found = []
        while reader.grab():
            found.append(reader.picture().copy())
    return found


def numbers(path: Path) -> list[int]:
    return [read_number(picture) for picture in pictures(path)]


def weave(count: int, *, top_first: bool) -> list[np.ndarray]:
    """Frames whose two fields show a bar at two times: combed wherever it moves."""
    frames = []
    for number in range(count):
        fields = []
        for half in range(2):
            frame = np.full((64, 96, 3), 40, np.uint8)
            left = 3 * (2 * number + half)
            frame[:, left : left + 12] = 220
            fields.append(frame)
        first, second = fields
        woven = first.copy()
        woven[1 if top_first else 0 :: 2] = second[1 if top_first else 0 :: 2]
        frames.append(woven)
    return frames


def combing(picture: np.ndarray) -> float:
    """How much neighbouring rows differ more than rows two apart."""
    grey = picture.astype(np.int16).mean(axis=2)
    near, far = np.abs(grey[2:] - grey[1:-1]).mean(), np.abs(grey[2:] - grey[:-2]).mean()
    return float(near - far)


INTERLACED: list[tuple[str, str, dict[str, Any]]] = [
    ("i.ts", "libx264", {"x264-params": "{field}=1:keyint=8"}),
    ("i.mp4", "libx264", {"x264-params": "{field}=1:keyint=8"}),
    ("i.avi", "mpeg4", {"q": 2}),
    ("i.mpg", "mpeg2video", {"b": "4000000"}),
]


@pytest.mark.parametrize(("name", "codec", "options"), INTERLACED)
@pytest.mark.parametrize("field", ["tff", "bff"])
def test_interlaced_video_is_deinterlaced_one_frame_per_frame(
    tmp_path: Path, name: str, codec: str, options: dict[str, Any], field: str
) -> None:
    wanted = {key: str(value).format(field=field) for key, value in options.items()}
    frames = weave(20, top_first=field == "tff")
    path = write_video(tmp_path / name, frames, codec=codec, flags="+ilme+ildct", field=field, **wanted)
    with av.open(str(path)) as file:
        assert all(frame.interlaced_frame for frame in file.decode(video=0))
    found = pictures(path)
    assert len(found) == 20
    for number, picture in enumerate(found[:14]):
        assert 4 * combing(picture) < 10 < combing(frames[number])
        bar = np.flatnonzero(picture[32, :, 1] > 130)
        assert abs(bar.mean() - (6 * number + 5.5)) <= 3.5


def test_an_interlaced_clip_gives_the_same_pictures_twice(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "i.ts", weave(14, top_first=True), codec="libx264", flags="+ilme+ildct", field="tff",
        **{"x264-params": "tff=1"},
    )  # fmt: skip
    one, two = read_clip(path, SMALL), read_clip(path, SMALL)
    assert np.array_equal(one.frames, two.frames)
    assert one.frames.std(axis=(1, 2, 3)).min() > 20
    assert one.warnings == ("it holds only 14 frames for the 16 asked for, so frames are repeated",)


def test_progressive_and_interlaced_frames_in_one_file(tmp_path: Path) -> None:
    woven, plain = weave(10, top_first=True), [numbered_frame(number, 96, 64) for number in range(10)]
    first = write_video(tmp_path / "1.h264", plain, codec="libx264", container="h264", bf=0)
    second = write_video(
        tmp_path / "2.h264", woven, codec="libx264", container="h264", flags="+ilme+ildct", field="tff", bf=0,
        **{"x264-params": "tff=1"},
    )  # fmt: skip
    path = tmp_path / "both.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    found = pictures(path)
    assert [read_number(picture) for picture in found[:10]] == list(range(10))
    assert max(combing(picture) for picture in found[10:]) < 4


# Display matrices

MATRICES = {
    "upright": (1, 0, 0, 1),
    "turned clockwise": (0, 1, -1, 0),
    "turned about": (-1, 0, 0, -1),
    "turned counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed and turned about": (0, -1, -1, 0),
}
STORED = {
    "upright": lambda shown: shown,
    "turned clockwise": lambda shown: np.rot90(shown, 1),
    "turned about": lambda shown: np.rot90(shown, 2),
    "turned counterclockwise": lambda shown: np.rot90(shown, -1),
    "mirrored": lambda shown: shown[:, ::-1],
    "upside down": lambda shown: shown[::-1],
    "transposed": lambda shown: shown.transpose(1, 0, 2),
    "transposed and turned about": lambda shown: np.rot90(shown, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", list(MATRICES))
def test_all_eight_orientations(tmp_path: Path, orientation: str) -> None:
    shown = [numbered_frame(number, 96, 64) for number in range(300, 316)]
    stored = [np.ascontiguousarray(STORED[orientation](frame)) for frame in shown]
    path = show_mp4(write_video(tmp_path / "v.mp4", stored), MATRICES[orientation])
    assert numbers(path) == list(range(300, 316))
    assert pictures(path)[0].shape == (64, 96, 3)
    assert [read_number(frame) for frame in read_clip(path, SMALL).frames] == list(range(300, 316))


# Cuts, tracks, covers, sound


def cut(source: Path, path: Path, start_s: float, seconds: float) -> Path:
    """Cuts by stream copy from the key frame before, hidden by an edit list, as ffmpeg does."""
    with av.open(str(source)) as file, av.open(str(path), "w") as output:
        stream = file.streams.video[0]
        copy = output.add_stream_from_template(stream)
        start = round(start_s / stream.time_base)
        file.seek(start, stream=stream)
        for packet in file.demux(stream):
            if packet.dts is None or packet.pts >= start + seconds / stream.time_base:
                continue
            packet.pts -= start
            packet.dts -= start
            packet.stream = copy
            output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_cut_by_stream_copy_lasts_as_long_as_it_is_shown(tmp_path: Path, suffix: str) -> None:
    source = write_numbered(tmp_path / "long.mp4", 250, codec="libx264", g=250, bf=0)
    path = cut(source, tmp_path / f"cut.{suffix}", 7.6, 2.0)
    clip = read_clip(path, SMALL)
    assert numbers(path) == list(range(190, 240))
    assert (clip.decoded_frames, clip.header_frames, clip.warnings) == (50, 50, ())
    assert median_seconds([path]) == pytest.approx(2.0, abs=0.05)
    sampler = VideoSampler(path, WindowPlan(4, 1.0, 2), 32)
    assert len(list(sampler)) == 8
    assert sampler.expected_s == pytest.approx(sampler.duration_s, abs=0.05)


def write_tracks(path: Path, *tracks: tuple[str, list[np.ndarray]], default: int | None = None) -> Path:
    """Writes several video tracks, each 0.04 s a frame."""
    with av.open(str(path), "w") as output:
        streams = []
        for number, (codec, frames) in enumerate(tracks):
            stream = output.add_stream(codec, rate=25)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            if default is not None:
                stream.disposition = av.stream.Disposition.default if number == default else 0
            streams.append(stream)
        for number in range(len(tracks[0][1])):
            for stream, (_, frames) in zip(streams, tracks, strict=True):
                frame = av.VideoFrame.from_ndarray(frames[number], format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode())
    return path


@pytest.mark.parametrize(("small_first", "default"), [(True, None), (False, None), (True, 1), (True, 0)])
def test_the_track_that_ffmpeg_chooses_and_a_warning(tmp_path: Path, small_first: bool, default: int | None) -> None:
    blank = ("mpeg4", [solid_frame((9, 9, 9), 32, 32)] * 16)
    video = ("mpeg4", [numbered_frame(number, 96, 64) for number in range(16)])
    tracks = [blank, video] if small_first else [video, blank]
    path = write_tracks(tmp_path / "v.mkv", *tracks, default=default)
    with VideoReader(path, threading.Event()) as reader:
        chosen = reader.stream_index
        (warning,) = reader.warnings
    expected = default if default is not None else int(small_first)
    assert chosen == expected
    assert warning.startswith(f"it holds 2 video tracks; track {expected} of ")
    assert read_clip(path, SMALL).warnings[0] == warning
    if tracks[chosen] is video:
        assert numbers(path) == list(range(16))


def test_sound_with_a_cover_picture_holds_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("mp3", rate=44_100)
        cover = output.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        output.mux(cover.encode(av.VideoFrame.from_ndarray(solid_frame((250, 0, 0), 32, 32), format="rgb24")))
        output.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
        frame.rate = 44_100
        output.mux(sound.encode(frame))
        output.mux(sound.encode())
    with pytest.raises(ClipError) as caught:
        read_clip(path, SMALL)
    assert caught.value.reason == "holds no video stream"


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "ts"])
def test_sound_that_outlasts_the_video_promises_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v.{suffix}"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4" if suffix != "ts" else "mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream("mp2", rate=44_100)
        for number in range(40):
            output.mux(video.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        output.mux(video.encode())
        for number in range(260):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            frame.rate, frame.pts = 44_100, 1152 * number
            output.mux(sound.encode(frame))
        output.mux(sound.encode())
    sampler = VideoSampler(path, WindowPlan(4, 1.0, 2), 32)
    list(sampler)
    assert sampler.duration_s == pytest.approx(1.6, abs=0.05)
    assert sampler.duration_s >= 0.98 * sampler.expected_s
    assert read_clip(path, SMALL).warnings == ()


# The environment, uncompressed files, damage


@pytest.mark.parametrize("options", ["skip_frame;nokey", "video_codec;absent", "protocol_whitelist;rtp"])
def test_options_for_cameras_do_not_concern_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", options)
    path = write_numbered(tmp_path / "v.mp4", 41)
    assert read_clip(path, SMALL).decoded_frames == 41
    assert numbers(path) == list(range(41))


@pytest.mark.parametrize("bits", [1, 4, 8, 16, 24, 32])
@pytest.mark.parametrize("width", [64, 37])
def test_uncompressed_avi_is_the_same_in_both_row_orders(tmp_path: Path, bits: int, width: int) -> None:
    up, down = tmp_path / "up.avi", tmp_path / "down.avi"
    write_raw_avi(up, width=width, height=48, bits=bits, bottom_up=True)
    write_raw_avi(down, width=width, height=48, bits=bits, bottom_up=False)
    risen, fallen = pictures(up), pictures(down)
    assert len(risen) == len(fallen) == 6
    for one, other in zip(risen, fallen, strict=True):
        assert np.array_equal(one, other[::-1])
    assert read_clip(up, SMALL).decoded_frames == 6


def test_uncompressed_pixels_come_out_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    write_raw_avi(path, width=64, height=48, bits=24, bottom_up=True, frames=1)
    content = path.read_bytes()
    stored = np.frombuffer(content, np.uint8, 64 * 48 * 3, content.index(b"00db") + 8).reshape(48, 64, 3)
    assert np.array_equal(pictures(path)[0], stored[::-1, :, ::-1])


def test_a_frame_that_is_cut_off_is_left_out_and_told(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.mkv", 40, width=320, height=240, codec="mjpeg", pixel_format="yuvj420p")
    drop_tail(path, 0.6)
    one, two = read_clip(path, SMALL), read_clip(path, SMALL)
    assert np.array_equal(one.frames, two.frames)
    assert one.warnings[0].startswith("only 1.0 s of the 1.6 s that its header promises")
    assert [read_number(frame) for frame in one.frames] == frame_indices(one.decoded_frames, 16)


def test_a_title_that_is_not_utf8_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "TITLE"
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(16):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        output.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"Caf\xe9\xff"))
    assert numbers(path) == list(range(16))


def test_a_container_cannot_open_other_addresses(tmp_path: Path) -> None:
    secret = write_numbered(tmp_path / "secret.mp4", 4)
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"\x00#EXTM3U\n#EXTINF:1,\nfile://{secret}\n")
    with pytest.raises(ClipError):
        read_clip(playlist, SMALL)


def test_a_closed_reader_still_says_what_the_file_states(tmp_path):
    """A closed container's memory is gone; reading it then ended the process with a signal now and then."""
    names = ("frame_count", "fps", "duration_s", "stream_index", "width", "height", "warnings", "damage")
    reader = VideoReader(write_numbered(tmp_path / "video.mp4", 20), threading.Event())
    with reader:
        while reader.grab():
            pass
        before = {name: getattr(reader, name) for name in names}
    filler = [VideoReader(reader.path, threading.Event()) for _ in range(20)]
    assert {name: getattr(reader, name) for name in names} == before
    assert before["frame_count"] == 20
    for other in filler:
        other.__exit__()
