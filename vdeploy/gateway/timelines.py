"""Timelines of videos of any length: decoded in a confined process, scored by the model's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import TimelineError
from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.traces import NO_TRACE, Trace
from vdeploy.timeline.sliding import Sample, SlidingDetector
from vdeploy.timeline.timeline import EventRule, Timeline, Window, find_events
from vdeploy.timeline.windows import WindowPlan

if TYPE_CHECKING:
    from vdeploy.gateway.decoding.pool import DecoderPool
    from vdeploy.gateway.models import ServedModel
    from vdeploy.video.workers.limits import DecodingLimits

__all__ = ["make_timeline", "plan_windows"]

_PATIENCE_S = 30.0
_SHORT_SHARE = 0.98
"""A video that ends before this share of what its header promises is incomplete."""


def plan_windows(model: ServedModel, window_s: float | None, stride_s: float | None) -> WindowPlan:
    """Plan the windows of a video.

    Args:
        model: Scores the windows.
        window_s: Length of a window in seconds; that of a training clip if left out.
        stride_s: From the start of a window to that of the next, in seconds; half a window if left out.

    Raises:
        Problem: A length is not positive.
    """
    try:
        return WindowPlan.for_scorer(model.scorer, window_s, stride_s)
    except TimelineError as error:
        raise Problem(422, "invalid_request", error.message, error.hint) from error


def make_timeline(
    path: Path,
    model: ServedModel,
    decoders: DecoderPool,
    limits: DecodingLimits,
    *,
    plan: WindowPlan,
    owner: str = "",
    on_window: Callable[[Window], None] | None = None,
    check: Callable[[], None] = lambda: None,
    trace: Trace = NO_TRACE,
) -> Timeline:
    """Score windows that slide over a video. Blocks until it is done.

    Args:
        path: The video.
        model: Scores the windows.
        decoders: Decode the video.
        limits: Of the decoding.
        plan: When frames are sampled.
        owner: Name of the key that sent it.
        on_window: Called with each window as soon as it is scored; what it raises ends the work.
        check: Called at every frame and while none is there; what it raises ends the work.
        trace: That of its request.

    Raises:
        Problem: The video cannot be decoded within its limits, or the model does not answer.
    """
    detector: SlidingDetector[str] = SlidingDetector(model.scorer, plan)
    windows: list[Window] = []
    batch: list[Sample[str]] = []
    # A call scores one window at most where windows are scored whole, so that other requests come in between.
    batch_size = plan.stride if model.scorer.granularity == "clip" else plan.frames

    def score(call: Callable[[], Any]) -> None:
        future = model.batcher.call(call, patience_s=_PATIENCE_S, trace=trace)
        with model.explaining():
            found = future.result()
        for scored in found:
            windows.append(scored.window)
            model.scores.add(scored.window.probability)
            if on_window:
                on_window(scored.window)

    def flush() -> None:
        if batch:
            taken = batch.copy()
            batch.clear()
            score(lambda: detector.feed(taken))

    samples = decoders.samples(Job(str(path), model.scorer.spec, limits, plan), owner=owner, check=check)
    with contextlib.closing(samples):
        while True:
            try:
                index, frame = next(samples)
            except StopIteration as ending:
                end = ending.value
                break
            batch.append(Sample("", index, frame))
            if len(batch) >= batch_size:
                flush()
    flush()
    score(lambda: detector.finish("", end.duration_s))
    rule = EventRule.at(model.scorer.threshold)
    warnings = list(end.warnings)
    if end.duration_s < plan.window_s - 0.5 / plan.sampled_fps:
        warnings.append(f"it lasts {end.duration_s:.2f} s, less than a window of {plan.window_s:g} s")
    if end.duration_s < _SHORT_SHARE * end.expected_s:
        warnings.append(
            f"only {end.duration_s:.1f} s of the {end.expected_s:.1f} s that its header promises can be decoded"
        )
    return Timeline(
        source="",
        duration_s=round(end.duration_s, 6),
        window_s=plan.window_s,
        stride_s=plan.stride_s,
        sampled_fps=plan.sampled_fps,
        rule=rule,
        windows=tuple(windows),
        events=find_events(windows, rule),
        warnings=tuple(warnings),
    )
