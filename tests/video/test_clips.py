from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from testing.videos import (
    drop_tail,
    numbered_frame,
    promise_frames,
    read_number,
    rotate_mp4,
    solid_frame,
    write_audio,
    write_numbered,
    write_video,
)
from vdeploy.core.errors import ClipError
from vdeploy.video import pictures, reader, seeking, wanted_frames
from vdeploy.video.clips import Clip, ClipSpec, read_clip
from vdeploy.video.wanted_frames import frame_indices

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SMALL = ClipSpec(size=32)


def numbers(clip: Clip) -> list[int]:
    return [read_number(frame) for frame in clip.frames]


def reason(path: Path | str) -> str:
    with pytest.raises(ClipError) as caught:
        read_clip(path, SMALL)
    return caught.value.reason


def sequential(path: Path, spec: ClipSpec, monkeypatch: pytest.MonkeyPatch) -> Clip:
    with monkeypatch.context() as patch:
        patch.setattr(wanted_frames, "LONG_GAP_FRAMES", 10**9)
        return read_clip(path, spec)


class Grabs:
    """Counts the frames that are decoded one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        grab = reader.VideoReader.grab

        def counting(capture: reader.VideoReader) -> bool:
            self.count += 1
            return grab(capture)

        monkeypatch.setattr(reader.VideoReader, "grab", counting)


# Which frames


@pytest.mark.parametrize(("available", "wanted"), [(41, 16), (16, 16), (17, 16), (5, 16), (1, 3), (100_001, 7)])
def test_indices_are_the_middles_of_equal_parts(available: int, wanted: int) -> None:
    assert frame_indices(available, wanted) == [int((i + 0.5) * available / wanted) for i in range(wanted)]


def test_indices_of_special_lengths() -> None:
    assert frame_indices(16, 16) == list(range(16))
    assert frame_indices(2, 4) == [0, 0, 1, 1]
    assert frame_indices(0, 16) == []


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.avi", "mpeg4", {}),
        ("clip.mp4", "libx264", {"bf": 3, "g": 12}),
        ("clip.mkv", "libx264", {"bf": 3}),
        ("clip.webm", "libvpx-vp9", {"cpu-used": 8}),
        ("clip.mpg", "mpeg2video", {"bf": 2}),
        ("clip.ts", "libx264", {"bf": 3}),
        ("clip.mov", "mjpeg", {"pixel_format": "yuvj420p"}),
    ],
)
def test_takes_the_right_frames_of_any_container(
    tmp_path: Path, name: str, codec: str, options: dict[str, Any]
) -> None:
    clip = read_clip(write_numbered(tmp_path / name, 41, codec=codec, **options), SMALL)
    assert numbers(clip) == frame_indices(41, 16)
    assert clip.decoded_frames == 41
    assert clip.header_frames == (41 if name.endswith((".avi", ".mp4", ".mov")) else 0)
    assert clip.fps == pytest.approx(25)
    assert clip.warnings == ()
    assert clip.frames.shape == (16, 32, 32, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.flags.c_contiguous


def test_every_frame_when_there_are_as_many_as_asked_for(tmp_path: Path) -> None:
    clip = read_clip(str(write_numbered(tmp_path / "clip.avi", 16)), SMALL)
    assert numbers(clip) == list(range(16))
    assert clip.warnings == ()


def test_a_variable_frame_rate_does_not_matter(tmp_path: Path) -> None:
    times = np.cumsum([0] + [10] * 30 + [200] * 10).tolist()
    for name in ("clip.mp4", "clip.mkv"):
        clip = read_clip(write_numbered(tmp_path / name, 41, codec="libx264", times_ms=times, bf=2), SMALL)
        assert numbers(clip) == frame_indices(41, 16)
        assert clip.decoded_frames == 41
        assert clip.warnings == ()


def test_few_frames_are_repeated_with_a_warning(tmp_path: Path) -> None:
    clip = read_clip(write_numbered(tmp_path / "clip.avi", 5), SMALL)
    assert numbers(clip) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert clip.warnings == ("it holds only 5 frames for the 16 asked for, so frames are repeated",)


def test_one_frame_is_repeated_with_a_warning(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.avi", 1)
    clip = read_clip(path, SMALL)
    assert numbers(clip) == [0] * 16
    assert clip.warnings == ("it holds a single frame for the 16 asked for, so frames are repeated",)
    assert read_clip(path, ClipSpec(frames=1, size=32)).warnings == ("it holds a single frame",)


# What the header says


@pytest.mark.parametrize(
    ("promised", "warnings"),
    [
        (400, ("only 40 of the 400 frames that its header promises can be decoded",)),
        (12, ("its header promises 12 frames, but 40 can be decoded",)),
        (0, ()),
    ],
)
def test_a_lying_header_changes_nothing_but_a_warning(tmp_path: Path, promised: int, warnings: tuple[str, ...]) -> None:
    honest = read_clip(write_numbered(tmp_path / "clip.avi", 40), SMALL)
    clip = read_clip(promise_frames(tmp_path / "clip.avi", promised), SMALL)
    assert np.array_equal(clip.frames, honest.frames)
    assert (clip.decoded_frames, clip.header_frames, clip.warnings) == (40, promised, warnings)


def test_a_raw_stream_has_no_header_at_all(tmp_path: Path) -> None:
    clip = read_clip(write_numbered(tmp_path / "clip.h264", 40, codec="libx264", container="h264", bf=2), SMALL)
    assert numbers(clip) == frame_indices(40, 16)
    assert (clip.decoded_frames, clip.header_frames, clip.warnings) == (40, 0, ())


def test_a_header_that_promises_a_long_video_does_not_mislead_the_seeking(tmp_path: Path) -> None:
    path = promise_frames(write_numbered(tmp_path / "clip.avi", 40), 1_000_000)
    clip = read_clip(path, SMALL)
    assert numbers(clip) == frame_indices(40, 16)
    assert clip.decoded_frames == 40


def test_a_file_that_changes_between_the_passes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = promise_frames(write_numbered(tmp_path / "clip.avi", 40), 12)
    read_pass, lengths = wanted_frames._pass, iter((40, 20, 40))

    def changing(*arguments: Any) -> tuple[object, int]:
        kept, _ = read_pass(*arguments)
        return kept, next(lengths)

    monkeypatch.setattr(wanted_frames, "_pass", changing)
    assert reason(path) == "changes while it is being read"


# Damaged files


def test_a_cut_off_avi_gives_the_frames_that_are_there(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.avi", 40, width=320, height=240, codec="mjpeg", pixel_format="yuvj420p")
    clip = read_clip(drop_tail(path, 0.7), SMALL)
    assert 16 < clip.decoded_frames < 40
    assert numbers(clip) == frame_indices(clip.decoded_frames, 16)
    assert clip.warnings == (f"only {clip.decoded_frames} of the 40 frames that its header promises can be decoded",)


def test_a_cut_off_mp4_with_its_index_in_front_gives_the_frames_that_are_there(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 40, width=320, height=240, fast_start=True)
    clip = read_clip(drop_tail(path, 0.7), SMALL)
    assert 10 < clip.decoded_frames < 40
    assert numbers(clip) == frame_indices(clip.decoded_frames, 16)
    assert clip.warnings[0] == f"only {clip.decoded_frames} of the 40 frames that its header promises can be decoded"


def test_a_cut_off_mp4_with_its_index_at_the_end(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 40, width=320, height=240)
    for keep in (0.99, 0.5, 0.01):
        assert reason(drop_tail(path, keep)) == "is incomplete: its index (the moov box) is missing"


def test_a_file_without_a_frame(tmp_path: Path) -> None:
    path = promise_frames(write_numbered(tmp_path / "clip.avi", 2), 0)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4])
    assert reason(path) == "holds no frame that can be decoded"


def test_files_that_are_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    (tmp_path / "noise.avi").write_bytes(np.random.default_rng(0).bytes(10_000))
    (tmp_path / "empty.mp4").touch()
    assert reason(tmp_path / "text.mp4") == "is not a readable video"
    assert reason(tmp_path / "noise.avi") == "is not a readable video"
    assert reason(tmp_path / "empty.mp4") == "is empty"
    assert reason(tmp_path / "missing.mp4") == "does not exist"
    assert reason(tmp_path) == "is a folder, not a video file"


def test_an_index_that_describes_no_readable_video(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 4)
    path.write_bytes(path.read_bytes().replace(b"trak", b"xxxx"))
    assert reason(path) == "is not a readable video"


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.wav", "pcm_s16le"), ("a.flac", "flac")])
def test_audio_holds_no_video_stream(tmp_path: Path, name: str, codec: str) -> None:
    assert reason(write_audio(tmp_path / name, codec=codec)) == "holds no video stream"


@pytest.mark.parametrize("content", ["#EXTM3U\n/etc/passwd\n", "\n ffconcat version 1.0\nfile x\n", "<MPD></MPD>"])
def test_a_playlist_is_never_followed(tmp_path: Path, content: str) -> None:
    (tmp_path / "list.mp4").write_text(content)
    assert reason(tmp_path / "list.mp4") == "is a playlist, not a video file"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.avi")
    assert reason(tmp_path / "pipe.avi") == "is not a regular file"


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.avi", 2)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.avi"))
    path.rename(odd)
    with pytest.raises(ClipError) as caught:
        read_clip(odd)
    assert caught.value.reason == "has a name that is not UTF-8, rename it"
    assert str(caught.value).isascii()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.avi", 2)
    path.chmod(0)
    assert reason(path) == "cannot be read (Permission denied)"


@pytest.mark.parametrize("pixel_format", ["yuvj420p", "yuvj422p"])
def test_a_frame_that_cannot_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixel_format: str) -> None:
    path = write_numbered(tmp_path / "clip.avi", 4, codec="mjpeg", pixel_format=pixel_format)

    def stubborn(*_: object, **__: object) -> object:
        raise ValueError("no such conversion")

    monkeypatch.setattr(pictures, "filter_graph", stubborn)
    monkeypatch.setattr(pictures.PictureConverter, "_scaled", stubborn)
    assert reason(path) == f"frame 0 cannot be converted to RGB (pixel format {pixel_format})"


def test_nothing_is_written_to_stderr(tmp_path: Path) -> None:
    drop_tail(write_numbered(tmp_path / "cut.mp4", 40), 0.5)
    drop_tail(write_numbered(tmp_path / "cut.avi", 40, codec="mjpeg", pixel_format="yuvj420p"), 0.5)
    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    damaged = bytearray(write_numbered(tmp_path / "damaged.avi", 40, width=320, height=240).read_bytes())
    damaged[6000:9000:7] = bytes(len(range(6000, 9000, 7)))
    (tmp_path / "damaged.avi").write_bytes(damaged)
    script = """
        import json, sys
        from vdeploy.video.clips import read_clip
        from vdeploy.core.errors import ClipError
        seen = {}
        for path in sys.argv[1:]:
            try:
                seen[path] = read_clip(path).decoded_frames
            except ClipError as error:
                seen[path] = error.reason
        heavy = [name for name in ("rich", "pydantic", "tensorflow") if name in sys.modules]
        print(json.dumps([list(seen.values()), heavy]))
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV")}
    names = [str(tmp_path / name) for name in ("cut.mp4", "cut.avi", "text.mp4", "damaged.avi")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *names],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    (cut_mp4, cut_avi, text, damaged_frames), heavy = json.loads(done.stdout)
    assert cut_mp4 == "is incomplete: its index (the moov box) is missing"
    assert text == "is not a readable video"
    assert 0 < cut_avi < 40
    assert 0 < damaged_frames <= 40
    assert heavy == []
    assert done.stderr == ""


# Pixels


def test_colours_come_out_as_rgb(tmp_path: Path) -> None:
    orange = (230, 120, 20)
    clip = read_clip(write_video(tmp_path / "clip.avi", [solid_frame(orange)] * 3, q=1), SMALL)
    assert np.abs(clip.frames.astype(int) - orange).max() <= 6


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_upright(tmp_path: Path, degrees: int) -> None:
    stored = [np.rot90(numbered_frame(number, 96, 64), degrees // 90) for number in range(16)]
    path = write_video(tmp_path / "clip.mp4", [np.ascontiguousarray(frame) for frame in stored])
    assert numbers(read_clip(path, SMALL)) != list(range(16))
    assert numbers(read_clip(rotate_mp4(path, degrees), SMALL)) == list(range(16))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 32), (64, 32)])
def test_shrinking_averages_areas(tmp_path: Path, width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = write_video(tmp_path / "clip.mkv", [pixels], codec="ffv1", pixel_format="bgr0")
    clip = read_clip(path, ClipSpec(frames=1, size=32))
    expected = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(clip.frames[0].astype(int) - expected).max() <= 1
    if (width, height) == (64, 32):
        assert np.abs(clip.frames[0] - pixels.reshape(32, 32, 2, 3).mean(axis=2)).max() <= 1


def test_enlarging_interpolates(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    path = write_video(tmp_path / "clip.mkv", [pixels], codec="ffv1", pixel_format="bgr0")
    clip = read_clip(path, ClipSpec(frames=1, size=32))
    expected = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_LINEAR)
    assert np.abs(clip.frames[0].astype(int) - expected).max() <= 1


def test_a_wide_low_frame_shrinks_one_way_and_grows_the_other(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 128, 3), dtype=np.uint8)
    path = write_video(tmp_path / "clip.mkv", [pixels], codec="ffv1", pixel_format="bgr0")
    clip = read_clip(path, ClipSpec(frames=1, size=32))
    averaged = pixels.reshape(16, 32, 4, 3).mean(axis=2).round().astype(np.uint8)
    expected = cv2.resize(averaged, (32, 32), interpolation=cv2.INTER_LINEAR)
    assert np.abs(clip.frames[0].astype(int) - expected).max() <= 2


def test_grey_and_odd_sized_video(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mkv", 20, width=51, height=37, codec="ffv1", pixel_format="gray")
    clip = read_clip(path, SMALL)
    assert numbers(clip) == frame_indices(20, 16)
    assert np.array_equal(clip.frames[..., 0], clip.frames[..., 2])


def test_a_resolution_that_changes_on_the_way(tmp_path: Path) -> None:
    parts = [
        write_numbered(tmp_path / f"{width}.h264", 10, width=width, height=height, codec="libx264", container="h264")
        for width, height in ((64, 48), (96, 80))
    ]
    (tmp_path / "clip.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_clip(tmp_path / "clip.h264", ClipSpec(frames=20, size=32))
    assert numbers(clip) == [*range(10), *range(10)]


# Long videos


@pytest.fixture(scope="module")
def long_times() -> list[int]:
    steps = np.random.default_rng(1).integers(5, 40, 2399)
    steps[1200:] *= 4
    times: list[int] = np.cumsum([0, *steps]).tolist()
    return times


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec", "variable"),
    [
        ("clip.mp4", "libx264", False),
        ("clip.mp4", "libx264", True),
        ("clip.mkv", "libx264", False),
        ("clip.mkv", "libx264", True),
        ("clip.avi", "mpeg4", False),
    ],
)
def test_seeking_gives_what_reading_through_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_times: list[int], name: str, codec: str, variable: bool
) -> None:
    options = {"bf": 3, "g": 40, "preset": "ultrafast", "b-adapt": 0} if codec == "libx264" else {"g": 40}
    times = long_times if variable else None
    path = write_numbered(tmp_path / name, 2400, codec=codec, times_ms=times, **options)
    through = sequential(path, SMALL, monkeypatch)
    grabs = Grabs(monkeypatch)
    clip = read_clip(path, SMALL)
    assert grabs.count < 1200
    assert numbers(clip) == frame_indices(2400, 16)
    assert np.array_equal(clip.frames, through.frames)
    assert (clip.decoded_frames, clip.fps, clip.warnings) == (2400, through.fps, ())


def test_seeking_is_left_alone_where_it_would_not_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.avi", 1100, g=600)
    grabs = Grabs(monkeypatch)
    assert numbers(read_clip(path, SMALL)) == frame_indices(1100, 16)
    assert grabs.count == 1101


def test_times_that_cannot_tell_frames_apart_mean_reading_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_numbered(tmp_path / "clip.h264", 1100, codec="libx264", container="h264", g=20, preset="ultrafast")
    grabs = Grabs(monkeypatch)
    assert numbers(read_clip(path, SMALL)) == frame_indices(1100, 16)
    assert grabs.count == 1101


@pytest.mark.parametrize("frames_off", [1, -30, 30])
def test_a_seek_that_lands_wrong_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames_off: int) -> None:
    path = write_numbered(tmp_path / "clip.avi", 1300, g=20)
    seek = reader.VideoReader.seek
    asked: list[int] = []

    def wrong_once(capture: reader.VideoReader, time_us: int) -> None:
        asked.append(time_us)
        seek(capture, time_us + (frames_off * 40_000 if len(asked) == 3 else 0))

    monkeypatch.setattr(reader.VideoReader, "seek", wrong_once)
    assert numbers(read_clip(path, SMALL)) == frame_indices(1300, 16)
    assert len(asked) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "listing",
    [
        pytest.param(lambda times: sorted([*times, 21_800_001]), id="packet without a frame"),
        pytest.param(lambda times: sorted([*times, times[500]]), id="two packets at one time"),
        pytest.param(lambda times: times[:-3], id="frames without a packet"),
    ],
)
def test_packets_that_are_not_the_frames_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: Callable[[list[int]], list[int]]
) -> None:
    path = write_numbered(tmp_path / "clip.avi", 1300, g=20)
    with reader.VideoReader(path, threading.Event()) as opened:
        packets = seeking.PacketList.read(opened)
    keys = [key for key in packets.keys if key < 1280]
    monkeypatch.setattr(seeking.PacketList, "read", lambda _: seeking.PacketList(listing(packets.times_us), keys))
    clip = read_clip(path, ClipSpec(frames=13, size=32))
    assert clip.decoded_frames == 1300
    assert numbers(clip) == frame_indices(1300, 13)


def test_a_long_file_that_is_cut_off_is_counted_by_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop_tail(write_numbered(tmp_path / "clip.avi", 2400, g=20), 0.7)
    clip = read_clip(path, SMALL)
    through = sequential(path, SMALL, monkeypatch)
    assert 1024 < clip.decoded_frames < 2400
    assert clip.decoded_frames == through.decoded_frames
    assert numbers(clip) == frame_indices(clip.decoded_frames, 16)
    assert clip.warnings == through.warnings
    assert clip.warnings[0].startswith(f"only {clip.decoded_frames} of the 2400 frames")


def test_a_decoder_starts_no_threads_of_its_own(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 20, codec="libx264")
    read_clip(path, SMALL)
    before = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    with reader.VideoReader(path, threading.Event()) as capture:
        assert capture.grab()
        assert len(os.listdir("/proc/self/task")) == before  # noqa: PTH208


# Real clips


@pytest.mark.slow
def test_real_clips_agree_with_reading_every_frame(hockey: Path) -> None:
    for path in sorted(hockey.rglob("*.avi"))[::20]:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        frames = []
        while (read := capture.read())[0]:
            frames.append(read[1])
        wanted = [frames[index] for index in frame_indices(len(frames), 16)]
        expected = [
            cv2.cvtColor(cv2.resize(frame, (224, 224), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
            for frame in wanted
        ]
        clip = read_clip(path)
        assert clip.decoded_frames == len(frames)
        assert np.array_equal(clip.frames, np.stack(expected))
