"""Progress of a build, and an end to it when the user presses Ctrl-C."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from vdeploy.core.progress import Step

__all__ = ["Progress", "interruption", "progress_monitor"]

_WHOLE = 100.0


@dataclasses.dataclass
class _Phase:
    start: float
    share: float
    steps: int
    position: float


class Progress:
    """How far a build is, from nested phases of which only the number of steps is known.

    A phase takes the share of one step of the phase that it is part of. Several may take the same step, so the position
    only ever moves forward and never beyond the end of the phase.

    Args:
        step: What shows it, in percent.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._phases: dict[str, _Phase] = {}
        self._shown = 0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            above = self._phases.get(parent or "")
            start, share = (above.position, above.share / above.steps) if above else (0.0, _WHOLE)
            self._phases[name] = _Phase(start, share, max(steps, 1), start)
            self._step.advance(0, note=name)

    def complete(self, name: str, index: int) -> None:
        """A step of a phase, counted from 0, is done."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is None:
                return
            phase.position = phase.start + phase.share * min((index + 1) / phase.steps, 1)
            self._show(phase.position)

    def finish(self, name: str) -> None:
        """A phase ends."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is not None:
                self._show(phase.start + phase.share)

    def _show(self, position: float) -> None:
        done = min(int(position), int(_WHOLE))
        if done > self._shown:
            self._step.advance(done - self._shown)
            self._shown = done


def progress_monitor(trt: Any, progress: Progress, stopped: Callable[[], bool]) -> Any:
    """Makes TensorRT's `IProgressMonitor`.

    Args:
        trt: The library.
        progress: Where the progress goes.
        stopped: Asked after every step; once it says yes, the build ends without an engine.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.complete(phase_name, step)
            return not stopped()

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """Turns Ctrl-C into an event while the block runs, and into `KeyboardInterrupt` at its end.

    Raised inside a callback, `KeyboardInterrupt` would unwind through TensorRT, which ends the process. Python takes
    signals in the main thread only; in another one this does nothing.

    Yields:
        An event that is set once the user wants to stop.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda _number, _frame: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
    if stop.is_set():
        raise KeyboardInterrupt
