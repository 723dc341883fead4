"""Interleaved measurement: each row in a separate process, one window at a time, in turns.

A machine drifts as it warms up and as its background load changes. Rows that take turns share the drift; rows that are
measured one after the other do not. Each round begins with another row, so that no row always follows the same one.
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

__all__ = ["Measurement", "ScoreClips", "measure_interleaved"]

_WINDOWS = 2 * LEAST_WINDOWS
"""Number of windows that the time of a row is divided into."""

_EXTENSION = 2
"""A row that does not settle is measured for this many times its time."""


@dataclasses.dataclass
class Measurement:
    """A row while it is measured.

    Attributes:
        label: Name in messages.
        job: What is measured.
        status: The outcome.
        reason: Why it was not measured.
        device: Where it computes.
        series: Its windows.
        parts: Seconds of each part, over all timed calls.
        peak_memory_bytes: Peak memory of its process, over all calls.
        sent: Calls since the first window began, timed or not.
        server: The server's counters over the same time, by stage; see `vdeploy.benchmark.served.statistics`.
        probabilities: Probability of violence by path of the scored clips.
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
    def recording_failure(self) -> Iterator[None]:
        """Records a failure inside the block as the outcome."""
        try:
            yield
        except Refused as refusal:
            self.status, self.reason = "absent", str(refusal)
        except Crashed as crash:
            self.status, self.reason = "error", str(crash)

    def warm_up(self, process: RowProcess, seconds: float) -> None:
        """Runs untimed calls."""
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
        """Whether it was measured for long enough, or has failed, or does not settle."""
        series = self.series
        if self.status != "ok":
            return True
        if series.settled and series.seconds >= seconds:
            return True
        return series.seconds >= _EXTENSION * seconds and len(series.windows) >= _WINDOWS


ScoreClips = Callable[[Measurement, RowProcess], None]
"""Scores clips in a row's process, after all rows were timed."""


def measure_interleaved(measurements: Sequence[Measurement], seconds: float, score: ScoreClips | None = None) -> None:
    """Measures rows in turns and writes the results into them.

    Args:
        measurements: The rows.
        seconds: Time for each; at least `LEAST_WINDOWS` calls, longer where it does not settle.
        score: Called with each row while its process runs.
    """
    with contextlib.ExitStack() as stack, track("benchmark", len(measurements) * LEAST_WINDOWS, "windows") as step:
        processes: dict[int, RowProcess] = {}
        for index, measurement in enumerate(measurements):
            step.advance(0, note=f"warm up {measurement.label}")
            with measurement.recording_failure():
                processes[index] = stack.enter_context(RowProcess(measurement.job))
                measurement.warm_up(processes[index], seconds / _WINDOWS)
        _take_turns(measurements, processes, seconds, step)
        for index, process in processes.items():
            if score is not None and measurements[index].status == "ok":
                with measurements[index].recording_failure():
                    score(measurements[index], process)


def _take_turns(
    measurements: Sequence[Measurement], processes: dict[int, RowProcess], seconds: float, step: Step
) -> None:
    turn = 0
    while running := [index for index, measurement in enumerate(measurements) if not measurement.finished(seconds)]:
        for place in range(len(running)):
            measurement = measurements[index := running[(place + turn) % len(running)]]
            step.advance(turn < LEAST_WINDOWS, note=measurement.label)
            with measurement.recording_failure():
                measurement.measure(processes[index], seconds / _WINDOWS)
        turn += 1
