"""What goes on in a stream's thread: a video that is watched to its end, or a camera that is watched for ever."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import DecoderPool
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.timelines import make_timeline
from vdeploy.live.camera import backoff_s
from vdeploy.timeline.events import EventTracker
from vdeploy.timeline.sliding import Sample, ScoredWindow, SlidingDetector
from vdeploy.timeline.timeline import EventRule, Window

if TYPE_CHECKING:
    from vdeploy.gateway.limits import DecodingLimits
    from vdeploy.gateway.models import ServedModel
    from vdeploy.timeline.windows import WindowPlan

__all__ = ["Emit", "watch_camera", "watch_video"]

Emit = Callable[[str, dict[str, Any]], None]
"""Tells the readers of a stream something; raises when the stream is to end."""

_PATIENCE_S = 30.0
_LOOK_S = 0.2


def watch_video(
    path: Path, plan: WindowPlan, decoders: DecoderPool, limits: DecodingLimits, model: ServedModel, emit: Emit
) -> None:
    """Watches a video, tells its windows, events and timeline, and removes the file.

    Args:
        path: The video.
        plan: When frames are sampled.
        decoders: What decodes.
        limits: Of the decoding.
        model: What judges.
        emit: Takes what was found.

    Raises:
        Problem: As `vdeploy.gateway.timelines.make_timeline`.
    """
    teller = _Teller(model, emit)
    try:
        timeline = make_timeline(path, model, decoders, limits, plan=plan, notice=teller.tell)
    finally:
        path.unlink(missing_ok=True)
    teller.finish()
    emit("timeline", timeline.to_dict())


def watch_camera(address: str, plan: WindowPlan, limits: DecodingLimits, model: ServedModel, emit: Emit) -> None:
    """Watches a camera until `emit` raises; one that is lost is tried again.

    Args:
        address: What `vdeploy.live.source.parse_source` understands.
        plan: When frames are sampled.
        limits: Of the decoding.
        model: What judges.
        emit: Takes what was found.
    """
    decoder = DecoderPool(1, network=True)
    failures = 0
    try:
        while True:
            teller = _Teller(model, emit)
            try:
                seen = _watch_until_lost(
                    Job(address, model.scorer.spec, limits.for_camera(), plan, live=True), decoder, model, teller
                )
                failures, reason = (0 if seen else failures), "it sends nothing any more"
            except Problem as problem:
                reason = problem.message
            teller.finish()
            failures += 1
            emit("lost", {"reason": reason})
            until = time.monotonic() + backoff_s(failures)
            while time.monotonic() < until:
                time.sleep(_LOOK_S)
                emit("", {})
    finally:
        decoder.close()


def _watch_until_lost(job: Job, decoder: DecoderPool, model: ServedModel, teller: _Teller) -> bool:
    assert job.plan is not None  # noqa: S101  a camera's job has a plan
    detector: SlidingDetector[str] = SlidingDetector(model.scorer, job.plan)
    seen = False
    with contextlib.closing(decoder.samples(job)) as samples:
        for index, frame in samples:
            feed = functools.partial(detector.feed, [Sample("", index, frame)])
            future = model.batcher.call(feed, patience_s=_PATIENCE_S)
            with model.explaining():
                found: list[ScoredWindow[str]] = future.result()
            seen = True
            teller.check()
            for scored in found:
                teller.tell(scored.window)
    return seen


class _Teller:
    """Tells windows, and the events in them."""

    def __init__(self, model: ServedModel, emit: Emit) -> None:
        self._tracker = EventTracker(EventRule.at(model.scorer.threshold))
        self._emit = emit

    def check(self) -> None:
        self._emit("", {})

    def tell(self, window: Window) -> None:
        self._emit("window", dataclasses.asdict(window))
        if (event := self._tracker.add(window)) is not None:
            self._emit("event", dataclasses.asdict(event))

    def finish(self) -> None:
        if (event := self._tracker.finish()) is not None:
            self._emit("event", dataclasses.asdict(event))
