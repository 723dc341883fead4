"""What `vdeploy predict` does with long videos, and how rules for events are typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.options import print_json, print_table
from vdeploy.core.errors import ClipError, TimelineError

if TYPE_CHECKING:
    from vdeploy.inference.scorer import StagedScorer
    from vdeploy.timeline.timeline import EventRule, Timeline

WindowOption = Annotated[
    float | None,
    typer.Option(min=0.04, help="Seconds of a window. [default: as long as the training clips]", show_default=False),
]
StrideOption = Annotated[
    float | None,
    typer.Option(min=0.001, help="Seconds from window to window. [default: half a window]", show_default=False),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Probability from which an event begins. [default: the model's]", show_default=False
    ),
]
LeaveOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Probability down to which an event goes on. [default: 0.8 of it]", show_default=False
    ),
]
MinDurationOption = Annotated[float, typer.Option(min=0, help="Seconds of the shortest event.")]
MergeGapOption = Annotated[float, typer.Option(min=0, help="Seconds between events that are one.")]

_STRIP_FRAMES = 12
_STRIP_SIZE = 160


def event_rule(
    model_threshold: float, threshold: float | None, leave: float | None, min_duration: float, merge_gap: float
) -> EventRule:
    """The rule that was typed, with the model's threshold where none was.

    Raises:
        TimelineError: Events would end at a higher probability than they begin at.
    """
    from vdeploy.timeline.timeline import EventRule  # noqa: PLC0415  keeps --help fast

    usual = EventRule.at(model_threshold if threshold is None else threshold)
    level = usual.leave if leave is None else leave
    if level > usual.enter:
        raise TimelineError(
            f"--leave {level:g} is above the threshold of {usual.enter:g}", "give a lower one, or a higher --threshold"
        )
    return EventRule(usual.enter, level, min_duration, merge_gap)


def predict_timelines(
    paths: Sequence[Path],
    scorer: StagedScorer,
    *,
    rule: EventRule,
    window_s: float | None,
    stride_s: float | None,
    timeline: Path | None,
    plot: Path | None,
    clips: Path | None,
    json: bool,
) -> None:
    """Finds the events of videos, prints them, and writes what was asked for."""
    from vdeploy.core.files import write_text  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.write_check import refuse_unwritable  # noqa: PLC0415  keeps --help fast
    from vdeploy.timeline.cutting import cut_events  # noqa: PLC0415  keeps --help fast
    from vdeploy.timeline.plot import check_picture  # noqa: PLC0415  keeps --help fast

    if len(paths) > 1 and (timeline or plot):
        raise TimelineError(
            f"--timeline and --plot write one file, and {len(paths)} videos were given", "give one video, or use --json"
        )
    if plot:
        check_picture(plot)
    for file in filter(None, (timeline, plot)):
        refuse_unwritable(file)
    if clips:
        refuse_unwritable(clips, folder=True)
    found = _detect(paths, scorer, rule=rule, window_s=window_s, stride_s=stride_s)
    failed = {path: outcome for path, outcome in found.items() if isinstance(outcome, ClipError)}
    done = {path: outcome for path, outcome in found.items() if not isinstance(outcome, ClipError)}
    for path, result in done.items():
        if timeline:
            write_text(timeline, result.to_json() + "\n")
        if plot:
            _plot(path, result, plot)
        if clips:
            for file in cut_events(path, result, clips):
                say(f"wrote {file}")
    if json:
        print_json(
            {
                "timelines": [result.to_dict() for result in done.values()],
                "failed": {str(path): error.reason for path, error in failed.items()},
            }
        )
    else:
        _print(done, failed)
    if failed and not done:
        raise typer.Exit(1)


def _detect(
    paths: Sequence[Path], scorer: StagedScorer, *, rule: EventRule, window_s: float | None, stride_s: float | None
) -> dict[Path, Timeline | ClipError]:
    from vdeploy.core.progress import track  # noqa: PLC0415  keeps --help fast
    from vdeploy.detector import detect_all  # noqa: PLC0415  keeps --help fast

    seen_s = dict.fromkeys(paths, 0.0)
    with track("detect", None, "seconds of video") as step:

        def notice(path: Path, end_s: float) -> None:
            step.advance(round(end_s - seen_s[path], 3), path.name)
            seen_s[path] = end_s

        found = dict(detect_all(paths, scorer, window_s=window_s, stride_s=stride_s, rule=rule, notice=notice))
    return {path: found[path] for path in paths}


def _plot(video: Path, timeline: Timeline, file: Path) -> None:
    from vdeploy.timeline.plot import plot_timeline  # noqa: PLC0415  keeps --help fast
    from vdeploy.video.clips import ClipSpec, read_clip  # noqa: PLC0415  keeps --help fast

    strip = read_clip(video, ClipSpec(frames=_STRIP_FRAMES, size=_STRIP_SIZE)).frames
    plot_timeline(timeline, file, strip)


def _print(done: dict[Path, Timeline], failed: dict[Path, ClipError]) -> None:
    from vdeploy.timeline.plot import clock  # noqa: PLC0415  keeps --help fast

    rows = [
        (
            path,
            clock(event.start_s),
            clock(event.end_s),
            clock(event.peak_s),
            f"{event.peak_probability:.4f}",
            f"{event.confidence:.4f}",
        )
        for path, timeline in done.items()
        for event in timeline.events
    ]
    if rows:
        print_table(("video", "from", "to", "peak at", "peak", "confidence"), rows)
    for path, timeline in done.items():
        count = len(timeline.windows)
        if not timeline.events:
            typer.echo(f"{path}: no event in {count} windows, the highest at {timeline.peak_probability:.4f}")
        for warning in timeline.warnings:
            typer.echo(f"{path}: {warning}", err=True)
    for path, error in failed.items():
        typer.echo(f"{path}: {error.reason}")
