"""Which frames of a video are sampled: by the times at which they are shown."""

from __future__ import annotations

import threading

import pytest

from testing.videos import drop_tail, read_number, write_audio, write_numbered
from vdeploy.core.errors import ClipError
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.reader import Stopped
from vdeploy.video.wanted_frames import frame_indices


def sampled(path, plan: WindowPlan) -> tuple[dict[int, int], VideoSampler]:
    """The number that each sampled frame shows, by the number that it was given."""
    sampler = VideoSampler(path, plan, 32)
    return {index: read_number(frame) for index, frame in sampler}, sampler


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
@pytest.mark.parametrize(("count", "fps"), [(50, 25), (41, 25), (64, 30), (96, 24), (16, 8)])
def test_a_window_is_sampled_as_a_clip_of_its_length(tmp_path, count, fps, suffix):
    path = write_numbered(tmp_path / f"v.{suffix}", count, fps=fps)
    numbers, sampler = sampled(path, WindowPlan(16, count / fps, 8))
    assert list(numbers) == list(range(16))
    assert list(numbers.values()) == frame_indices(count, 16)
    assert sampler.duration_s == pytest.approx(count / fps, abs=1e-3)
    assert sampler.expected_s == pytest.approx(count / fps, abs=1e-3)
    assert sampler.decoded_frames == count


def test_every_window_of_a_long_video_is_sampled_so(tmp_path):
    path = write_numbered(tmp_path / "v.mp4", 250, g=50, bf=2)
    numbers, _ = sampled(path, WindowPlan(16, 2.0, 8))
    expected = [second * 50 + number for second in range(5) for number in frame_indices(50, 16)]
    assert list(numbers.values()) == expected


@pytest.mark.parametrize("container", ["mkv", "flv", "ts"])
def test_times_in_milliseconds_are_good_enough(tmp_path, container):
    codec = {"mkv": "mpeg4", "flv": "flv", "ts": "mpeg2video"}[container]
    path = write_numbered(tmp_path / f"v.{container}", 90, fps=30, codec=codec)
    numbers, _ = sampled(path, WindowPlan(16, 3.0, 8))
    assert list(numbers) == list(range(16))
    wanted = frame_indices(90, 16)
    assert max(abs(found - number) for found, number in zip(numbers.values(), wanted, strict=True)) <= 1


def test_a_variable_frame_rate_goes_by_the_times(tmp_path):
    times = [*range(0, 1000, 40), *range(1000, 3000, 100)]
    path = write_numbered(tmp_path / "v.mkv", len(times), times_ms=times)
    numbers, sampler = sampled(path, WindowPlan(4, 1.0, 2))
    shown = [max(n for n, time in enumerate(times) if time <= 1000 * (index + 0.5) / 4) for index in range(12)]
    assert list(numbers) == list(range(12))
    assert max(abs(found - number) for found, number in zip(numbers.values(), shown, strict=True)) <= 1
    assert sampler.duration_s == pytest.approx(2.95, abs=0.06)


def test_a_frame_that_is_shown_for_long_comes_as_seldom_as_it_may(tmp_path):
    path = write_numbered(tmp_path / "v.mp4", 6, fps=1)
    numbers, _ = sampled(path, WindowPlan(4, 1.0, 2))
    assert set(numbers.values()) == set(range(6))
    assert all(number == index // 4 for index, number in numbers.items())
    steps = [after - before for before, after in zip(numbers, list(numbers)[1:], strict=False)]
    assert max(steps) <= 3
    assert len(numbers) < 24
    assert max(numbers) == 23


def test_a_hole_in_the_times_shows_the_frame_before_it(tmp_path):
    times = [*range(0, 1000, 40), *range(4000, 5000, 40)]
    path = write_numbered(tmp_path / "v.mkv", len(times), times_ms=times)
    numbers, _ = sampled(path, WindowPlan(4, 1.0, 2))
    in_hole = {number for index, number in numbers.items() if 4 <= index < 16}
    assert len(in_hole) == 1
    assert in_hole <= {21, 22, 23, 24}
    assert max(numbers) == 19


def test_a_hole_without_end_is_not_filled(tmp_path):
    times = [*range(0, 1000, 40), *range(9_000_000, 9_001_000, 40)]
    path = write_numbered(tmp_path / "v.mkv", len(times), times_ms=times)
    numbers, _ = sampled(path, WindowPlan(4, 1.0, 2))
    assert len(numbers) < 12
    assert min(index for index in numbers if index > 3) == 36_000


@pytest.mark.parametrize("count", [1, 2])
def test_a_video_shorter_than_the_first_sampling_time_gives_one_frame(tmp_path, count):
    numbers, _ = sampled(write_numbered(tmp_path / "v.mp4", count), WindowPlan(4, 4.0, 2))
    assert numbers == {0: 0}


def test_what_cannot_be_decoded(tmp_path):
    plan = WindowPlan(4, 1.0, 2)
    with pytest.raises(ClipError, match="does not exist"):
        VideoSampler(tmp_path / "absent.mp4", plan, 32)
    with pytest.raises(ClipError, match="holds no video stream"):
        VideoSampler(write_audio(tmp_path / "sound.mp4"), plan, 32)


def test_a_truncated_video_is_sampled_as_far_as_it_goes(tmp_path):
    path = drop_tail(write_numbered(tmp_path / "v.avi", 400, g=12), 0.6)
    numbers, sampler = sampled(path, WindowPlan(4, 1.0, 2))
    assert 4 < len(numbers) < 60
    assert list(numbers) == list(range(len(numbers)))
    assert sampler.duration_s < 0.7 * sampler.expected_s or sampler.expected_s == pytest.approx(
        sampler.duration_s, abs=1
    )


def test_it_stops_when_told_to(tmp_path):
    stop = threading.Event()
    frames = iter(VideoSampler(write_numbered(tmp_path / "v.mp4", 100), WindowPlan(4, 1.0, 2), 32, stop))
    next(frames)
    stop.set()
    with pytest.raises(Stopped):
        list(frames)
