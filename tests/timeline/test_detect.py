"""Timelines of videos: the same scores as each window by itself, whatever the length, in bounded memory."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from testing.decoder_kills import children, cpu_seconds
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import drop_tail, promise_frames, solid_frame, write_numbered, write_video
from testing.waiting import eventually
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ClipError, TimelineError
from vdeploy.detector import detect, detect_all
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.scorer import padded
from vdeploy.timeline import decoding
from vdeploy.timeline.decoding import sample_videos
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.sliding import Sample, SlidingDetector
from vdeploy.timeline.timeline import EventRule
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import read_clip
from vdeploy.video.workers.pool import workers


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return LocalScorer(make_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """Half a minute, with a number in every frame."""
    return write_numbered(tmp_path_factory.mktemp("long") / "long.mp4", 750, g=50, bf=2)


class CountingScorer:
    """A scorer that counts the frames that are given to it, and remembers the shapes."""

    def __init__(self, scorer) -> None:
        self._scorer = scorer
        self.spec, self.classes, self.threshold = scorer.spec, scorer.classes, scorer.threshold
        self.clip_seconds, self.granularity, self.causal = scorer.clip_seconds, scorer.granularity, scorer.causal
        self.frames, self.shapes, self.batches = 0, [], []

    def extract(self, frames):
        assert frames.flags.c_contiguous
        self.frames += frames.shape[0] * frames.shape[1]
        self.shapes.append(frames.shape)
        return self._scorer.extract(frames)

    def classify(self, features):
        self.batches.append(len(features))
        return self._scorer.classify(features)

    def score(self, frames):
        return self._scorer.score(frames)


@pytest.mark.parametrize(("window_s", "stride_s"), [(2.0, 1.0), (2.0, 0.5), (1.64, 0.1), (3.0, 3.0)])
def test_scores_are_those_of_each_window_by_itself(scorer, long_video, window_s, stride_s):
    counting = CountingScorer(scorer)
    timeline = detect(long_video, counting, window_s=window_s, stride_s=stride_s)
    plan = WindowPlan.of(4, window_s, stride_s)
    frames = dict(VideoSampler(long_video, plan, 32))
    assert len(timeline.windows) >= (30 - window_s) / timeline.stride_s
    for window in timeline.windows:
        first = round(window.start_s * plan.sampled_fps)
        alone = np.stack([frames[first + number] for number in range(4)])[np.newaxis]
        assert window.probability == pytest.approx(float(scorer.score(alone)[0, 1]), abs=1e-5)
        assert window.end_s - window.start_s == pytest.approx(window_s, abs=1e-5)
    assert counting.frames == len(frames)
    assert timeline.windows[-1].end_s == pytest.approx(30, abs=1 / plan.sampled_fps)


class WholeClipScorer(CountingScorer):
    """A scorer that looks at the frames of a clip together, and finds those violent that grow brighter."""

    def __init__(self, scorer) -> None:
        super().__init__(scorer)
        self.granularity = "clip"

    def extract(self, _):
        raise AssertionError("frames of a clip are not looked at one by one")

    def score(self, frames):
        assert frames.dtype == np.uint8
        assert frames.shape[1:] == (4, 32, 32, 3)
        self.shapes.append(frames.shape)
        means = frames.mean(axis=(2, 3, 4), dtype=np.float64)
        violent = 1 / (1 + np.exp((means[:, 0] - means[:, 3]) / 20))
        return np.stack([1 - violent, violent], axis=1).astype(np.float32)


@pytest.mark.parametrize(("window_s", "stride_s"), [(2.0, 1.0), (1.64, 0.41)])
def test_where_clips_are_looked_at_whole_every_window_is_scored_whole(scorer, long_video, window_s, stride_s):
    whole = WholeClipScorer(scorer)
    timeline = detect(long_video, whole, window_s=window_s, stride_s=stride_s)
    plan = WindowPlan.of(4, window_s, stride_s)
    frames = dict(VideoSampler(long_video, plan, 32))
    assert len(whole.shapes) == len(timeline.windows) >= (30 - window_s) / timeline.stride_s
    for window in timeline.windows:
        first = round(window.start_s * plan.sampled_fps)
        alone = np.stack([frames[first + number] for number in range(4)])[np.newaxis]
        assert window.probability == pytest.approx(float(whole.score(alone)[0, 1]), abs=1e-5)


def test_a_video_of_one_window_is_scored_as_a_clip(scorer, tmp_path):
    video = write_numbered(tmp_path / "clip.mp4", 50)
    (window,) = detect(video, scorer, window_s=2.0).windows
    assert window.probability == pytest.approx(float(scorer.score(read_clip(video, scorer.spec).frames[None])[0, 1]))


def test_what_is_assumed_is_said(scorer, long_video):
    timeline = detect(long_video, scorer)
    assert (timeline.window_s, timeline.stride_s, timeline.sampled_fps) == (2.0, 1.0, 2.0)
    assert timeline.warnings == ("the model's training clips are taken to last 2 s",)
    assert timeline.rule == EventRule.at(scorer.threshold)
    assert detect(long_video, scorer, window_s=2.0).warnings == ()
    assert timeline.duration_s == pytest.approx(30)
    assert timeline.dropped_frames == 0


def test_windows_are_as_long_as_the_training_clips(scorer, long_video):
    counting = CountingScorer(scorer)
    counting.clip_seconds = 4.0
    timeline = detect(long_video, counting)
    assert (timeline.window_s, timeline.stride_s, timeline.warnings) == (4.0, 2.0, ())
    assert detect(long_video, counting, window_s=3.0).window_s == 3.0


def test_the_rule_decides_over_events(scorer, long_video):
    timeline = detect(long_video, scorer, stride_s=0.5, rule=EventRule(0.93, 0.9, merge_gap_s=0.0))
    assert timeline.events
    assert timeline.events != detect(long_video, scorer, stride_s=0.5, rule=EventRule(0.95, 0.95)).events
    for event in timeline.events:
        inside = [w for w in timeline.windows if event.start_s <= w.start_s and w.end_s <= event.end_s]
        assert event.peak_probability == max(window.probability for window in inside) >= 0.93


def test_stretches_between_gaps_are_scored_though_shorter_than_a_window(scorer, tmp_path):
    stretch = range(0, 1200, 40)
    times = [60_000 * number + time for number in range(3) for time in stretch]
    path = write_numbered(tmp_path / "v.mkv", len(times), times_ms=times, g=10)
    timeline = detect(path, scorer, window_s=1.6, rule=EventRule(0.0, 0.0, merge_gap_s=0.0))
    assert [(window.start_s, window.end_s) for window in timeline.windows] == [
        (pytest.approx(60 * number, abs=0.5), pytest.approx(60 * number + 1.2, abs=0.5)) for number in range(3)
    ]
    assert len(timeline.events) == 3
    alone = write_numbered(tmp_path / "alone.mkv", len(stretch), times_ms=stretch, g=10)
    (window,) = detect(alone, scorer, window_s=1.6).windows
    assert timeline.windows[0].probability == pytest.approx(window.probability)
    (warning, *_) = timeline.warnings
    assert warning == "it has 2 gaps in its times, 117.7 s in all; what comes before a long one is scored as an end is"


def test_several_videos_share_batches(scorer, tmp_path):
    videos = [write_video(tmp_path / f"{n}.mp4", [solid_frame((n * 60, 90, 200))] * (60 + 25 * n)) for n in range(4)]
    broken = drop_tail(write_numbered(tmp_path / "broken.mp4", 20), 0.5)
    counting = CountingScorer(scorer)
    found = dict(detect_all([*videos, broken, tmp_path / "absent.mp4"], counting, stride_s=0.5, workers=3))
    assert set(found) == {*videos, broken, tmp_path / "absent.mp4"}
    assert "moov" in found[broken].reason
    assert found[tmp_path / "absent.mp4"].reason == "does not exist"
    for video in videos:
        assert found[video] == detect(video, scorer, stride_s=0.5)
    assert counting.shapes.count((1, 4, 32, 32, 3)) >= 3


def test_progress_is_told(scorer, long_video):
    seen = []
    list(detect_all([long_video], scorer, notice=lambda path, end_s: seen.append((path, end_s))))
    assert seen == sorted(seen)
    assert seen[-1] == (long_video, 30.0)


@pytest.mark.parametrize("granularity", ["frame", "clip"])
def test_windows_are_collected_with_the_mean_of_their_features(scorer, long_video, granularity):
    asked = CountingScorer(scorer)
    asked.granularity = granularity
    collected = []
    ((_, timeline),) = detect_all([long_video], asked, collect=lambda *found: collected.append(found))
    assert [(path, window) for path, window, _ in collected] == [(long_video, one) for one in timeline.windows]
    assert [one.probability for one in timeline.windows] == pytest.approx(
        [one.probability for one in detect(long_video, scorer).windows], abs=1e-6
    )
    frames = dict(VideoSampler(long_video, WindowPlan.of(4, 2.0), 32))
    for number, (_, _, features) in enumerate(collected):
        alone = np.stack([frames[2 * number + place] for place in range(4)])[np.newaxis]
        np.testing.assert_allclose(features, scorer.extract(alone)[0].mean(axis=0), atol=1e-5)


def test_no_video_no_timeline(scorer):
    assert list(detect_all([], scorer)) == []


def test_a_short_video_and_one_that_promises_too_much(scorer, tmp_path):
    short = detect(write_numbered(tmp_path / "short.mp4", 20), scorer)
    assert [(window.start_s, window.end_s) for window in short.windows] == [(0, 0.8)]
    assert short.warnings[1] == "it lasts 0.80 s, less than a window of 2 s"
    lying = detect(promise_frames(write_numbered(tmp_path / "lying.avi", 100), 1000), scorer, window_s=2.0)
    assert lying.warnings == ("only 4.0 s of the 40.0 s that its header promises can be decoded",)


def test_errors_of_a_single_video(scorer, tmp_path, long_video):
    with pytest.raises(ClipError, match="does not exist"):
        detect(tmp_path / "absent.mp4", scorer)
    with pytest.raises(TimelineError, match="make no timeline"):
        detect(long_video, scorer, window_s=0.0)


def test_decoding_waits_for_whoever_scores(long_video, monkeypatch):
    decoded = threading.Semaphore(0)
    real = decoding._decoded

    def counting(*arguments):
        for item in real(*arguments):
            decoded.release()
            yield item

    monkeypatch.setattr(decoding, "_decoded", counting)
    samples = sample_videos([long_video], WindowPlan(4, 0.4, 2), 1024, ahead=5)
    for _ in range(3):
        next(samples)
    ahead = 0
    while decoded.acquire(timeout=0.5):
        ahead += 1
    assert 3 + 5 <= ahead <= 3 + 5 + 2
    (process,) = workers.processes
    (child,) = children(process.pid)
    before = cpu_seconds(child)
    time.sleep(0.3)
    assert cpu_seconds(child) == before
    samples.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("video-decoder")]
    assert eventually(lambda: not Path(f"/proc/{child}").exists())


def test_what_goes_wrong_in_a_decoder_is_raised(long_video, monkeypatch):
    def failing(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(decoding, "_decoded", failing)
    with pytest.raises(RuntimeError, match="a defect"):
        list(sample_videos([long_video], WindowPlan(4, 2.0, 2), 32))


def test_streams_do_not_mix(scorer):
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (3, 20, 32, 32, 3), dtype=np.uint8)
    plan = WindowPlan(4, 2.0, 2)
    counting = CountingScorer(scorer)
    together = SlidingDetector(counting, plan)
    found = []
    for start in range(0, 20, 5):
        batch = [Sample(n, i, frames[n, i]) for n in range(3) for i in range(start, start + 5)]
        found += together.feed(batch)
    assert max(counting.batches) > 3
    assert max(counting.shapes) == (3, 4, 32, 32, 3)
    for stream in range(3):
        windows = [scored.window for scored in found if scored.stream == stream]
        alone = SlidingDetector(scorer, plan)
        expected = [scored.window for i in range(20) for scored in alone.feed([Sample("s", i, frames[stream, i])])]
        assert [w.start_s for w in windows] == [w.start_s for w in expected]
        np.testing.assert_allclose([w.probability for w in windows], [w.probability for w in expected], atol=1e-6)
    assert together.finish("unknown") == []
    assert together.feed([]) == []


def test_frames_are_repeated_for_an_extractor_that_takes_whole_clips():
    frames = np.arange(2 * 3 * 12, dtype=np.uint8).reshape(2, 3, 2, 2, 3)
    whole = padded(frames, 4)
    assert whole.shape == (2, 4, 2, 2, 3)
    np.testing.assert_array_equal(whole[:, :3], frames)
    np.testing.assert_array_equal(whole[:, 3], frames[:, 2])
    assert padded(frames, 3) is frames
    assert padded(frames, 1) is frames


def test_such_an_extractor_gives_the_same_timeline(scorer, long_video, tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    manifest = json.loads((bundle.root / "bundle.json").read_text())
    manifest["artifacts"][0]["inputs"][0]["shape"][1] = 4
    (bundle.root / "bundle.json").write_text(json.dumps(manifest))
    fixed = LocalScorer(Bundle(bundle.root))
    lengths = []
    infer = fixed._extractor.infer

    def recording(inputs):
        lengths.append(inputs["frames"].shape[1])
        return infer(inputs)

    fixed._extractor.infer = recording
    expected = detect(long_video, scorer, window_s=1.9)
    assert detect(long_video, fixed, window_s=1.9) == dataclasses.replace(expected)
    assert set(lengths) == {4}
