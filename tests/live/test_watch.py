"""Watching real streams from real servers on this machine: HTTP and RTSP, several at a time, that come and go."""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testing.streams import mjpeg_server, rtsp_server
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import solid_frame, write_numbered, write_video
from vdeploy.core.errors import ClientError
from vdeploy.detector import detect
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.open_scorer import open_scorer
from vdeploy.live import camera, watcher
from vdeploy.live.report import Report
from vdeploy.live.source import parse_sources
from vdeploy.live.watcher import watch
from vdeploy.timeline.events import EventRule

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("video") / "v.mp4", 200, g=10)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("video") / "clip.mp4", 55)


@pytest.fixture
def connect(bundle):
    return functools.partial(open_scorer, bundle=bundle.root)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(camera, "_FIRST_WAIT_S", 0.05)


def until(enough: Callable[[list[Report]], object], sources: list[str], connect, **options) -> list[Report]:
    """Watches until there are reports enough."""
    stop, seen, is_enough = threading.Event(), [], False
    deadline = time.monotonic() + PATIENCE_S
    for report in watch(parse_sources(sources), connect, stop=stop, **options):
        seen.append(report)
        is_enough = is_enough or bool(enough(seen))
        if is_enough or time.monotonic() > deadline:
            stop.set()
    assert is_enough, seen
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera-")]
    return seen


def kinds(reports: list[Report]) -> Counter[str]:
    return Counter(report.kind for report in reports)


@pytest.mark.slow
@pytest.mark.parametrize("serve", [mjpeg_server, rtsp_server])
def test_a_stream_that_breaks_off_is_opened_again(serve, video, connect):
    with serve(video) as server:
        server.close_after = 40
        scheme = "http" if serve is mjpeg_server else "rtsp"
        reports = until(
            lambda seen: kinds(seen)["connected"] >= 2 and seen[-1].kind == "window",
            [f"{scheme}://user:secret@127.0.0.1:{server.port}/x"],
            connect,
            window_s=0.4,
            stride_s=0.2,
        )
        assert server.connections >= 2
    lost = next(report for report in reports if report.kind == "lost")
    assert "sends nothing any more; tried again in" in lost.message
    scored = [report for report in reports if report.kind == "window"]
    assert all(report.latency_ms >= 0 for report in scored)
    starts = [report.window.start_s for report in scored]
    assert starts == sorted(starts)
    assert not [report for report in reports if "secret" in report.to_json()]


@pytest.mark.slow
def test_several_sources_at_once_until_one_ends(video, connect, tmp_path):
    red = write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 50)
    with mjpeg_server(video) as http, rtsp_server(video) as rtsp:
        names = [f"http://127.0.0.1:{http.port}/", f"rtsp://127.0.0.1:{rtsp.port}/", str(red)]

        def enough(seen: list[Report]) -> bool:
            scored = Counter(report.source for report in seen if report.kind == "window")
            return min(scored[name] for name in names) >= 2 and kinds(seen)["ended"] >= 1

        until(enough, names, connect, window_s=0.4, stride_s=0.2)


def test_a_file_is_scored_to_its_end(bundle, connect, tmp_path):
    red = write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 40)
    reports = until(lambda seen: kinds(seen)["ended"], [str(red)], connect, window_s=1.0, stride_s=1.0)
    assert kinds(reports)["lost"] == 0
    scored = [report.window for report in reports if report.kind == "window"]
    assert scored[-1].end_s == pytest.approx(1.6, abs=0.3)
    (expected, *_) = detect(red, LocalScorer(bundle), window_s=1.0).windows
    assert [window.probability for window in scored] == pytest.approx([expected.probability] * len(scored))


def test_events_begin_and_end(bundle, clip, connect):
    options = {"window_s": 0.4, "rule": lambda _: EventRule(0.0, 0.0)}
    reports = until(lambda seen: kinds(seen)["ended"], [str(clip)], connect, **options)
    began, ended = (
        next(report for report in reports if report.kind == kind) for kind in ("event_began", "event_ended")
    )
    assert began.event.start_s == ended.event.start_s == 0
    assert ended.event.end_s > began.event.end_s
    assert kinds(reports)["event_began"] == kinds(reports)["event_ended"] == 1


def test_a_stream_that_never_comes_is_given_up(connect):
    reports = until(lambda seen: kinds(seen)["ended"], ["http://127.0.0.1:9/x"], connect, retries=2)
    assert [report.kind for report in reports] == ["lost", "lost", "lost", "ended"]
    assert "cannot be reached" in reports[0].message
    assert "tried again" not in reports[2].message


class SlowScorer:
    """Takes so long for a batch that a camera is always ahead."""

    def __init__(self, scorer) -> None:
        self._scorer = scorer
        self.spec, self.classes, self.threshold = scorer.spec, scorer.classes, scorer.threshold
        self.clip_seconds, self.granularity, self.causal = scorer.clip_seconds, scorer.granularity, scorer.causal

    def extract(self, frames):
        time.sleep(0.4)
        return self._scorer.extract(frames)

    def classify(self, features):
        return self._scorer.classify(features)

    def score(self, frames):
        return self._scorer.score(frames)


@pytest.mark.slow
def test_a_scorer_that_is_too_slow_drops_frames_and_does_not_fall_behind(bundle, video):
    @contextlib.contextmanager
    def slow() -> Iterator[SlowScorer]:
        yield SlowScorer(LocalScorer(bundle))

    with mjpeg_server(video) as server:
        reports = until(
            lambda seen: kinds(seen)["window"] >= 6 and seen[-1].dropped_frames > 0,
            [f"http://127.0.0.1:{server.port}/"],
            slow,
            window_s=0.4,
            stride_s=0.2,
        )
    latencies = [report.latency_ms for report in reports if report.kind == "window"]
    assert min(latencies[-3:]) < 5000


class FlakyScorer(SlowScorer):
    """A server that fails when told to."""

    broken = False

    def extract(self, frames):
        if type(self).broken:
            raise ClientError("no Triton answers", "start it")
        return self._scorer.extract(frames)


def test_a_server_that_fails_is_asked_again_and_has_another_threshold_then(bundle, video, monkeypatch):
    refused = []

    @contextlib.contextmanager
    def flaky() -> Iterator[FlakyScorer]:
        if FlakyScorer.broken:
            refused.append(True)
            FlakyScorer.broken = len(refused) < 2
            raise ClientError("no Triton answers", "start it")
        scorer = FlakyScorer(LocalScorer(bundle))
        scorer.threshold = 1.0 if refused else 0.0
        yield scorer

    monkeypatch.setattr(FlakyScorer, "broken", False)
    stop, seen = threading.Event(), []
    with mjpeg_server(video) as server:
        sources = parse_sources([f"http://127.0.0.1:{server.port}/"])
        for report in watch(sources, flaky, window_s=0.4, stride_s=0.2, stop=stop):
            seen.append(report)
            if kinds(seen)["window"] == 2 and not refused:
                FlakyScorer.broken = True
            if (seen[-1].kind == "window" and kinds(seen)["scorer_back"]) or len(seen) > 500:
                stop.set()
    assert kinds(seen)["scorer_lost"] == 3
    assert seen[-1].kind in {"window", "event_ended", "ended"}
    lost = next(report for report in seen if report.kind == "scorer_lost")
    assert lost.message.startswith("no Triton answers; start it; tried again in")
    back = next(report for report in seen if report.kind == "scorer_back")
    assert (back.message, back.threshold) == ("threshold 0.00 -> 1.00", 1.0)
    assert kinds(seen)["event_began"] == kinds(seen)["event_ended"] == 1
    later = seen[seen.index(back) :]
    scored = [report for report in later if report.kind == "window"]
    (ended,) = (report.event for report in seen if report.kind == "event_ended")
    assert ended.end_s < scored[0].window.end_s, "by the old rule the event would have gone on"


@pytest.mark.slow
@pytest.mark.parametrize(("granularity", "follows"), [("clip", True), ("frame", False)])
def test_a_threshold_is_followed_where_the_newest_version_scores(bundle, video, monkeypatch, granularity, follows):
    monkeypatch.setattr(watcher, "_ASK_AGAIN_S", 0.1)
    scorer = LocalScorer(bundle)
    scorer.granularity, scorer.threshold = granularity, 1.0
    deployed, asked = copy.copy(scorer), []
    deployed.threshold = 0.0

    def newest() -> contextlib.AbstractContextManager[LocalScorer]:
        asked.append(True)
        if len(asked) == 1:
            raise ClientError("no Triton answers", "start it")
        return contextlib.nullcontext(deployed)

    with mjpeg_server(video) as server:
        reports = until(
            lambda seen: kinds(seen)["event_began"] if follows else kinds(seen)["window"] >= 3,
            [f"http://127.0.0.1:{server.port}/"],
            lambda: contextlib.nullcontext(scorer),
            window_s=0.4,
            stride_s=0.2,
            newest=newest,
        )
    changed = [(report.message, report.threshold) for report in reports if report.kind == "scorer_changed"]
    assert changed == ([("threshold 1.00 -> 0.00", 0.0)] if follows else [])
    assert bool(asked) == bool(kinds(reports)["event_began"]) == follows


def test_a_server_that_does_not_tell_its_version_delays_no_window(bundle, video, monkeypatch):
    monkeypatch.setattr(watcher, "_ASK_AGAIN_S", 0.1)
    scorer = LocalScorer(bundle)
    scorer.granularity = "clip"
    asked, release, late = threading.Event(), threading.Event(), []

    def newest() -> contextlib.AbstractContextManager[LocalScorer]:
        asked.set()
        release.wait(PATIENCE_S)
        raise ClientError("no Triton answers", "start it")

    def enough(seen: list[Report]) -> bool:
        late.append(asked.is_set() and seen[-1].kind == "window")
        if sum(late) == 3:
            release.set()
        return release.is_set()

    connect = functools.partial(contextlib.nullcontext, scorer)
    with mjpeg_server(video) as server:
        until(enough, [f"http://127.0.0.1:{server.port}/"], connect, window_s=0.4, stride_s=0.2, newest=newest)


def test_a_server_that_comes_back_with_another_model_is_refused(bundle, video, tmp_path):
    other = make_tiny_bundle(tmp_path / "other", frames=8)
    scorers = iter([FlakyScorer(LocalScorer(bundle)), LocalScorer(other)])

    @contextlib.contextmanager
    def changing() -> Iterator[object]:
        yield next(scorers)

    FlakyScorer.broken = True
    with (
        mjpeg_server(video) as server,
        pytest.raises(ClientError, match="serves a model for other clips now; start again"),
    ):
        list(watch(parse_sources([f"http://127.0.0.1:{server.port}/"]), changing, window_s=0.4))


def test_no_server_at_the_start_is_an_error(video):
    connect = functools.partial(open_scorer, url="127.0.0.1:9")
    with pytest.raises(ClientError, match="no Triton answers"):
        next(watch(parse_sources([str(video)]), connect))


def test_a_file_shorter_than_a_window_ends_its_event_with_it(connect, tmp_path):
    red = write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 20)
    reports = list(watch(parse_sources([str(red)]), connect, window_s=4.0, rule=lambda _: EventRule(0.0, 0.0)))
    (over,) = (report.event for report in reports if report.kind == "event_ended")
    assert over.end_s <= 3.0
