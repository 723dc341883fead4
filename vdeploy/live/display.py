"""Reports for people: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vdeploy.live.report import Report
from vdeploy.live.status import SourceStatus, StatusBoard
from vdeploy.timeline.plot import clock

__all__ = ["Display", "LineDisplay", "TableDisplay", "open_display"]

_BAR = 20
_SUMMARY_EVERY_S = 10.0


class Display(Protocol):
    """Shows reports while its ``with`` block runs."""

    def __enter__(self) -> Display:
        """Begins."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends."""

    def show(self, report: Report) -> None:
        """Shows that something has happened."""


class TableDisplay:
    """A table that is drawn again and again, with events scrolling above it."""

    def __init__(self, console: Console, names: list[str], threshold: float) -> None:
        self._board, self._threshold = StatusBoard(names), threshold
        self._console = console
        self._live = Live(self._table(), console=console, refresh_per_second=8)

    def __enter__(self) -> TableDisplay:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def show(self, report: Report) -> None:
        """Shows that something has happened."""
        self._board.take(report)
        if report.threshold is not None:
            self._threshold = report.threshold
        if report.kind != "window":
            self._console.print(_line(report), markup=False, highlight=False)
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("source", "state", "violence", "", "events", "latency", "dropped"):
            table.add_column(name, justify="right" if name in {"events", "latency", "dropped"} else "left")
        for status in self._board.sources.values():
            table.add_row(*self._row(status))
        if self._board.message:
            table.caption = self._board.message
        return table

    def _row(self, status: SourceStatus) -> tuple[str | Text, ...]:
        state = Text("EVENT", "bold red") if status.in_event else Text(status.state)
        probability = status.probability
        if probability is None:
            bar, number = Text(""), ""
        else:
            filled = round(probability * _BAR)
            bar = Text("█" * filled, "red" if probability >= self._threshold else "blue")
            bar.append("░" * (_BAR - filled), "dim")
            number = f"{probability:.2f}"
        latency = "" if status.latency_ms is None else f"{status.latency_ms:.0f} ms"
        return (status.name, state, bar, number, str(status.events), latency, str(status.dropped_frames))


class LineDisplay:
    """A line for every event and everything that fails, and one for every source now and then."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._board, self._console = StatusBoard(names), console
        self._summed_up = time.monotonic()

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sum_up()

    def show(self, report: Report) -> None:
        """Shows that something has happened."""
        self._board.take(report)
        if report.kind != "window":
            self._print(_line(report))
        if time.monotonic() - self._summed_up >= _SUMMARY_EVERY_S:
            self._sum_up()

    def _sum_up(self) -> None:
        self._summed_up = time.monotonic()
        for status in self._board.sources.values():
            parts = [f"{status.windows} windows", f"{status.events} events", f"{status.dropped_frames} frames dropped"]
            if status.probability is not None:
                parts.insert(0, f"violence {status.probability:.2f}")
            if status.latency_ms is not None:
                parts.append(f"latency {status.latency_ms:.0f} ms")
            self._print(f"{status.name}: {', '.join(parts)}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def open_display(console: Console, names: list[str], threshold: float) -> Display:
    """The display that fits a console.

    Args:
        console: Where to show.
        names: Names of the sources.
        threshold: Probability from which a window is shown as violent, until a report has another one.
    """
    return TableDisplay(console, names, threshold) if console.is_terminal else LineDisplay(console, names)


def _line(report: Report) -> str:
    moment = report.at[11:19]
    if report.event is None:
        told = ", ".join(filter(None, (_WORDS[report.kind], report.message)))
        return " ".join(f"{moment} {report.source or 'scorer'}: {told}".split())
    event = report.event
    if report.kind == "event_began":
        return (
            f"{moment} {report.source}: event began at {clock(event.start_s)}, probability {event.peak_probability:.2f}"
        )
    length = event.end_s - event.start_s
    return (
        f"{moment} {report.source}: event ended, {clock(event.start_s)} to {clock(event.end_s)} ({length:.1f} s), "
        f"peak {event.peak_probability:.2f}, mean {event.confidence:.2f}"
    )


_WORDS = {
    "connected": "connected",
    "lost": "lost",
    "ended": "ended",
    "gap": "has a gap",
    "scorer_lost": "lost",
    "scorer_back": "back",
    "scorer_changed": "another version scores",
}
