"""Runs the steps of studies one after the other and saves each result when the step ends."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results.command import output_of
from benchmarks.results.record import load_record, make_measurement, save_measurement
from benchmarks.results.study import Inputs, Step, Study
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.progress import say, track

__all__ = ["Task", "due_tasks", "run_tasks"]


@dataclasses.dataclass(frozen=True)
class Task:
    """A step to run.

    Attributes:
        study: Its study's name.
        step: The step.
        last_seconds: Duration of its last run, if that is known.
    """

    study: str
    step: Step
    last_seconds: float | None

    @property
    def label(self) -> str:
        """Short name of study and step."""
        return self.study if self.step.name == self.study else f"{self.study}, {self.step.name}"


def due_tasks(
    studies: Sequence[Study], inputs: Inputs, records: Path, before: datetime.datetime | None = None
) -> list[Task]:
    """Lists the steps that can run on this machine; for each other step, a line is printed with the reason.

    Args:
        studies: The studies.
        inputs: The inputs of the user.
        records: Folder of the records.
        before: Leave out steps that were measured at this time or later.

    Raises:
        BenchmarkError: A record cannot be read.
    """
    tasks = []
    for study in studies:
        known = load_record(records, study.name).measurements
        for step in study.steps:
            last = known.get(step.name)
            task = Task(study.name, step, last.seconds if last else None)
            if last and before and datetime.datetime.fromisoformat(last.created).astimezone() >= before:
                continue
            if reason := step.missing(inputs):
                say(f"skipped {task.label}: {reason}")
            else:
                tasks.append(task)
    return tasks


def run_tasks(tasks: Sequence[Task], inputs: Inputs, records: Path) -> int:
    """Runs steps and writes the record of each when it ends; the record of a step that fails stays.

    Args:
        tasks: The steps.
        inputs: The inputs of the user.
        records: Folder of the records.

    Returns:
        Number of steps that failed; for each, a line is printed with the reason.
    """
    failed = 0
    with track("studies", len(tasks), "steps") as progress:
        for task in tasks:
            usual = "" if task.last_seconds is None else f" (last time: {task.last_seconds:.0f} s)"
            progress.advance(0, f"{task.label}{usual}")
            started = time.monotonic()
            try:
                with tempfile.TemporaryDirectory(prefix="vdeploy-study-") as folder:
                    output = output_of(task.step.words(inputs), Path(folder), lambda line: progress.advance(0, line))
                measurement = make_measurement(
                    task.step.shown(inputs), task.step.keep(output), seconds=round(time.monotonic() - started, 1)
                )
                save_measurement(records, task.study, task.step.name, measurement)
            except BenchmarkError as error:
                failed += 1
                say(f"failed {task.label}: {error}")
            progress.advance()
    return failed
