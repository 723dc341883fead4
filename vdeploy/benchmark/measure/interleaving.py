"""Measuring rows side by side: each in its own process, a window at a time, in turns.

A machine drifts: it warms up, its neighbours come and go. Rows that are measured one after the other get different
weather; in turns, all of them get the same. Each round begins with another row, so that none always follows the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from vdeploy.benchmark.measure.process import Crashed, Refused, RowProcess
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.windows import LEAST_WINDOWS, Series
from vdeploy.benchmark.record import Status
from vdeploy.core.progress import Step, track

__all__ = ["Contender", "Judge", "measure_side_by_side"]

_WINDOWS = 2 * LEAST_WINDOWS
"""Windows that the time of a row is cut into."""

_PATIENCE = 2
"""A row that does not settle is given so many times its time."""


@dataclasses.dataclass
class Contender:
    """A row on its way.

    Attributes:
        label: What to call it.
        job: What is measured.
        status: How it ended.
        reason: Why it was not measured.
        device: Where it computes.
        series: Its windows.
        parts: Seconds of each part, over all timed calls.
        peak_memory_bytes: Of its process, all calls included.
        sent: Calls since the first window began, timed or not.
        server: What the server counted meanwhile, by stage; see `vdeploy.benchmark.served.statistics`.
        probabilities: Of violence, by path of the clips that it judged.
    """

    label: str
    job: Job
    status: Status = "ok"
    reason: str | None = None
    device: str = "cpu"
    series: Series = dataclasses.field(default_factory=Series)
    parts: Counter[str] = dataclasses.field(default_factory=Counter)
    peak_memory_bytes: int | None = None
    sent: int = 0
    server: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """Notes what goes wrong in the block, and why."""
        try:
            yield
        except Refused as refusal:
            self.status, self.reason = "absent", str(refusal)
        except Crashed as crash:
            self.status, self.reason = "error", str(crash)

    def warm_up(self, process: RowProcess, seconds: float) -> None:
        """Calls it untimed."""
        self.device = process.device
        self.series.warmup_calls += process.ask("warm", seconds)["calls"]

    def measure(self, process: RowProcess, seconds: float) -> None:
        """Times a window."""
        answer = process.ask("window", seconds)
        self.series.windows.append(answer["durations"])
        self.series.warmup_calls += answer["untimed"]
        self.parts.update(answer["parts"])
        self.peak_memory_bytes = answer["peak_memory_bytes"]
        self.sent += len(answer["durations"]) + answer["untimed"]
        if rate := answer.get("calls_per_s"):
            self.series.rates.append(rate)
        for stage, counts in answer.get("server", {}).items():
            self.server.setdefault(stage, Counter()).update(counts)

    def finished(self, seconds: float) -> bool:
        """Whether it was measured for long enough, or does not settle."""
        series = self.series
        if self.status != "ok":
            return True
        if series.settled and series.seconds >= seconds:
            return True
        return series.seconds >= _PATIENCE * seconds and len(series.windows) >= _WINDOWS


Judge = Callable[[Contender, RowProcess], None]
"""Has a contender judge clips, after all were timed."""


def measure_side_by_side(contenders: Sequence[Contender], seconds: float, judge: Judge | None = None) -> None:
    """Measures rows in turns and writes what was found into them.

    Args:
        contenders: The rows.
        seconds: How long to measure each; at least `LEAST_WINDOWS` calls, longer where it does not settle.
        judge: What else to do with each while its process is there.
    """
    with contextlib.ExitStack() as stack, track("benchmark", len(contenders) * LEAST_WINDOWS, "windows") as step:
        processes: dict[int, RowProcess] = {}
        for index, contender in enumerate(contenders):
            step.advance(0, note=f"warm up {contender.label}")
            with contender.trying():
                processes[index] = stack.enter_context(RowProcess(contender.job))
                contender.warm_up(processes[index], seconds / _WINDOWS)
        _in_turns(contenders, processes, seconds, step)
        for index, process in processes.items():
            if judge is not None and contenders[index].status == "ok":
                with contenders[index].trying():
                    judge(contenders[index], process)


def _in_turns(contenders: Sequence[Contender], processes: dict[int, RowProcess], seconds: float, step: Step) -> None:
    turn = 0
    while running := [index for index, contender in enumerate(contenders) if not contender.finished(seconds)]:
        for place in range(len(running)):
            contender = contenders[index := running[(place + turn) % len(running)]]
            step.advance(turn < LEAST_WINDOWS, note=contender.label)
            with contender.trying():
                contender.measure(processes[index], seconds / _WINDOWS)
        turn += 1
