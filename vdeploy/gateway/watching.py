"""The work of a stream's thread: score a video to its end, or a camera until it is cancelled."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import BACKGROUND_NICE, DecoderPool
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.timelines import make_timeline, plan_windows
from vdeploy.live.camera import backoff_s
from vdeploy.live.source import parse_source
from vdeploy.timeline.events import EventTracker
from vdeploy.timeline.sliding import Sample, ScoredWindow, SlidingDetector
from vdeploy.timeline.timeline import EventRule, Window

if TYPE_CHECKING:
    from vdeploy.gateway.models import ServedModel
    from vdeploy.gateway.reporter import Reporter
    from vdeploy.timeline.windows import WindowPlan
    from vdeploy.video.workers.limits import DecodingLimits

__all__ = ["watch_camera", "watch_video"]

_PATIENCE_S = 30.0
_CHECK_S = 0.2


def watch_video(
    path: Path,
    plan: WindowPlan,
    decoders: DecoderPool,
    limits: DecodingLimits,
    owner: str,
    model: ServedModel,
    reporter: Reporter,
) -> bool:
    """Score a video, report its windows, events and timeline, and delete the file.

    Args:
        path: The video.
        plan: When frames are sampled.
        decoders: Decode it.
        limits: Of the decoding.
        owner: Name of the key that sent it.
        model: Scores the windows.
        reporter: Takes the results, and cancels.

    Raises:
        Cancelled: The reporter was cancelled.
        Problem: As `vdeploy.gateway.timelines.make_timeline`.
    """
    windows = _WindowReporter(model, reporter)
    try:
        timeline = make_timeline(
            path,
            model,
            decoders,
            limits,
            plan=plan,
            owner=owner,
            on_window=windows.add,
            check=reporter.check,
        )
    finally:
        path.unlink(missing_ok=True)
    windows.finish()
    reporter.tell("timeline", timeline.to_dict())
    return False


def watch_camera(
    address: str,
    window_s: float | None,
    stride_s: float | None,
    limits: DecodingLimits,
    model: ServedModel,
    reporter: Reporter,
) -> bool:
    """Score what a camera sends until cancelled or the model is replaced; a lost connection is opened again.

    Args:
        address: As for `vdeploy.live.source.parse_source`.
        window_s: As for `vdeploy.gateway.timelines.plan_windows`.
        stride_s: The same.
        limits: Of the decoding.
        model: Scores the windows.
        reporter: Takes the results, and cancels.

    Raises:
        Cancelled: The reporter was cancelled.
        Problem: The model has no windows of these lengths.
    """
    plan = plan_windows(model, window_s, stride_s)
    source = parse_source(address)
    live = None if source.kind == "file" else source.to_input()
    job = Job(source.target, model.scorer.spec, limits.for_camera(), plan, live)
    decoder = DecoderPool(1, network=live is not None, nice=BACKGROUND_NICE)
    failures = 0
    try:
        while not model.replaced.is_set():
            windows = _WindowReporter(model, reporter)
            try:
                seen = _watch_until_lost(job, plan, decoder, model, windows, reporter)
                failures, reason = (0 if seen else failures), "it sends nothing any more"
            except Problem as problem:
                reason = problem.message
            windows.finish()
            if model.replaced.is_set():
                reason = "the model has been replaced"
            failures += 1
            reporter.tell("lost", {"reason": reason})
            until = time.monotonic() + backoff_s(failures)
            while time.monotonic() < until and not model.replaced.wait(_CHECK_S):
                reporter.check()
    finally:
        decoder.close()
    return True


def _watch_until_lost(
    job: Job,
    plan: WindowPlan,
    decoder: DecoderPool,
    model: ServedModel,
    windows: _WindowReporter,
    reporter: Reporter,
) -> bool:
    detector: SlidingDetector[str] = SlidingDetector(model.scorer, plan)
    seen = False
    with contextlib.closing(decoder.samples(job, check=reporter.check)) as samples:
        for index, frame in samples:
            feed = functools.partial(detector.feed, [Sample("", index, frame)])
            future = model.batcher.call(feed, patience_s=_PATIENCE_S)
            with model.explaining():
                found: list[ScoredWindow[str]] = future.result()
            seen = True
            for scored in found:
                model.scores.add(scored.window.probability)
                windows.add(scored.window)
            if model.replaced.is_set():
                break
    return seen


class _WindowReporter:
    """Reports windows, and the events that they make."""

    def __init__(self, model: ServedModel, reporter: Reporter) -> None:
        self._tracker = EventTracker(EventRule.at(model.scorer.threshold))
        self._reporter = reporter

    def add(self, window: Window) -> None:
        self._reporter.tell("window", dataclasses.asdict(window))
        if (event := self._tracker.add(window)) is not None:
            self._reporter.tell("event", dataclasses.asdict(event))

    def finish(self) -> None:
        if (event := self._tracker.finish()) is not None:
            self._reporter.tell("event", dataclasses.asdict(event))
