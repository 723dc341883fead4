"""Runs the steps of studies, one after the other, and keeps what each found as soon as it ends."""

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
        last_seconds: How long it took the last time, if that is known.
    """

    study: str
    step: Step
    last_seconds: float | None

    @property
    def label(self) -> str:
        """Study and step in a few words."""
        return self.study if self.step.name == self.study else f"{self.study}, {self.step.name}"


def due_tasks(
    studies: Sequence[Study], inputs: Inputs, records: Path, before: datetime.datetime | None = None
) -> list[Task]:
    """The steps that can run here; for each of the others, a line says what it lacks.

    Args:
        studies: What is to be measured.
        inputs: What the user gives.
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
    """Runs steps and writes the record of each as it ends; the old one of a step that fails stays.

    Args:
        tasks: The steps.
        inputs: What the user gives.
        records: Folder of the records.

    Returns:
        How many failed; a line says why, for each.
    """
    failed = 0
    with track("studies", len(tasks), "steps") as progress:
        for task in tasks:
            usual = "" if task.last_seconds is None else f" (took {task.last_seconds:.0f} s the last time)"
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
