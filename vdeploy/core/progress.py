"""Progress on stderr: a bar with rate and ETA on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vdeploy.core.text import escape_controls

__all__ = ["Step", "console", "quietly", "say", "track"]

PLAIN_INTERVAL_SECONDS = 10.0
"""Interval between lines where stderr is not a terminal."""

_console: Console | None = None


def console() -> Console:
    """Returns the console for everything that is not a result; it writes to stderr."""
    global _console  # noqa: PLW0603  created late, so that tests can redirect stderr first
    if _console is None:
        _console = Console(stderr=True, highlight=False, soft_wrap=True)
    return _console


def say(message: str) -> None:
    """Prints one line of information to stderr, without markup and with control characters escaped."""
    console().print(escape_controls(message), markup=False)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Shows no lines and no progress of what runs in the block, which is a small part of a task that shows its own."""
    global _console  # noqa: PLW0603
    before, _console = _console, Console(stderr=True, quiet=True, force_terminal=False)
    try:
        yield
    finally:
        _console = before


class Step(Protocol):
    """A running task whose progress is shown."""

    def advance(self, count: float = 1, note: str | None = None) -> None:
        """Adds ``count`` finished units and optionally shows a short note after the bar."""


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


class _BarStep:
    def __init__(self, progress: Progress, description: str, total: float | None, unit: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, unit=unit, note="")

    def advance(self, count: float = 1, note: str | None = None) -> None:
        if note is None:
            self._progress.update(self._task, advance=count)
        else:
            self._progress.update(self._task, advance=count, note=escape_controls(note))


class _PlainStep:
    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done, self._note = 0.0, ""
        self._started = self._printed = time.monotonic()

    def advance(self, count: float = 1, note: str | None = None) -> None:
        self._done += count
        self._note = self._note if note is None else note
        if time.monotonic() - self._printed >= PLAIN_INTERVAL_SECONDS:
            self.report()

    def report(self) -> None:
        self._printed = time.monotonic()
        elapsed = max(self._printed - self._started, 1e-9)
        rate = self._done / elapsed
        parts = [f"{self._done:g}{f'/{self._total:g}' if self._total is not None else ''} {self._unit}"]
        if self._done:
            parts.append(f"{rate:,.1f} {self._unit}/s")
        if self._total is not None and 0 < self._done < self._total:
            parts.append(f"ETA {_clock((self._total - self._done) / rate)}")
        else:
            parts.append(_clock(elapsed))
        if self._note:
            parts.append(self._note)
        say(f"{self._description}: {', '.join(parts)}")


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@contextlib.contextmanager
def track(description: str, total: float | None, unit: str) -> Iterator[Step]:
    """Shows the progress of a task while the block runs.

    Args:
        description: Name of the task.
        total: Total number of units, or ``None`` if unknown.
        unit: Plural name of the unit, for example ``"clips"``.

    Yields:
        A step to advance.
    """
    if console().is_terminal:
        columns: list[str | ProgressColumn] = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        with Progress(*columns, console=console()) as progress:
            yield _BarStep(progress, description, total, unit)
        return
    step = _PlainStep(description, total, unit)
    yield step
    step.report()
