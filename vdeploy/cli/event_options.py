"""Options of events, and the table of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.options import print_line, print_table

if TYPE_CHECKING:
    from vdeploy.core.errors import ClipError
    from vdeploy.timeline.timeline import EventRule, Timeline

__all__ = ["EventOptions", "StrideOption", "WindowOption", "print_events"]

_DAY_S = 86_400

WindowOption = Annotated[
    float | None,
    typer.Option(
        min=0.04,
        max=_DAY_S,
        help="Seconds of a window. [default: the length of the training clips]",
        show_default=False,
    ),
]
StrideOption = Annotated[
    float | None,
    typer.Option(
        min=0.001, max=_DAY_S, help="Seconds from window to window. [default: half a window]", show_default=False
    ),
]


@dataclasses.dataclass(frozen=True)
class EventOptions:
    """Options of sliding windows and of the rule that turns their scores into events."""

    window: WindowOption = None
    stride: StrideOption = None
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Probability at which an event begins. [default: the model's]", show_default=False
        ),
    ] = None
    leave: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Probability below which an event ends. [default: 0.8 of the threshold]",
            show_default=False,
        ),
    ] = None
    min_duration: Annotated[
        float, typer.Option(min=0, max=_DAY_S, help="Length of the shortest event, in seconds.")
    ] = 0.0
    merge_gap: Annotated[
        float, typer.Option(min=0, max=_DAY_S, help="Events closer than this are merged, in seconds.")
    ] = 1.0

    @property
    def given(self) -> bool:
        """Whether an option of sliding windows was given."""
        return any(value is not None for value in (self.window, self.stride, self.threshold, self.leave))

    def rule(self, model_threshold: float) -> EventRule:
        """Returns the rule for events, with the model's threshold by default.

        Raises:
            TimelineError: Events would end at a higher probability than they begin at.
        """
        from vdeploy.core.errors import TimelineError  # noqa: PLC0415  keeps --help fast
        from vdeploy.timeline.timeline import EventRule  # noqa: PLC0415  keeps --help fast

        usual = EventRule.at(model_threshold if self.threshold is None else self.threshold)
        leave = usual.leave if self.leave is None else self.leave
        if leave > usual.enter:
            raise TimelineError(
                f"--leave {leave:g} is above the threshold of {usual.enter:g}",
                "give a lower one, or a higher --threshold",
            )
        return EventRule(usual.enter, leave, self.min_duration, self.merge_gap)


def print_events(timelines: Mapping[Path, Timeline], failed: Mapping[Path, ClipError]) -> None:
    """Prints a table of events, then a line for each video without events or with an error."""
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast
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
        for path, timeline in timelines.items()
        for event in timeline.events
    ]
    if rows:
        print_table(("video", "from", "to", "peak at", "peak", "confidence"), rows)
    for path, timeline in timelines.items():
        count = len(timeline.windows)
        if not timeline.events:
            print_line(f"{path}: no event in {count} windows, the highest at {timeline.peak_probability:.4f}")
        for warning in timeline.warnings:
            say(f"{path}: {warning}")
    for path, error in failed.items():
        print_line(f"{path}: {error.reason}")
