"""Renders RESULTS.md from the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results.markdown import between, paragraph
from benchmarks.results.record import Measurement, Record, load_record
from benchmarks.results.study import Step, Study
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.files import write_text

__all__ = ["render", "write_results"]

_HEAD = (
    "`python -m benchmarks.results` writes this page from [records](records); `python -m benchmarks.results run` "
    "measures again. Every figure is from a record, which holds command, date, machine and versions, and more "
    "than is shown."
)


def write_results(folder: Path, studies: Sequence[Study]) -> Path:
    """Writes ``folder/RESULTS.md`` from ``folder/records``.

    Raises:
        BenchmarkError: A record cannot be read, or lacks a figure of its section.
    """
    file = folder / "RESULTS.md"
    write_text(file, render(studies, [load_record(folder / "records", study.name) for study in studies]))
    return file


def render(studies: Sequence[Study], records: Sequence[Record]) -> str:
    """Renders the page.

    Args:
        studies: The studies, one section each.
        records: Their records, in the same order.

    Raises:
        BenchmarkError: A record lacks a figure of its section.
    """
    machines = list(
        dict.fromkeys(_machine(each.environment) for record in records for each in record.measurements.values())
    )
    letters = {machine: chr(ord("A") + index) for index, machine in enumerate(machines)}
    blocks = ["# Results", paragraph(_HEAD)]
    blocks += [paragraph(f"Machine {letter}: {machine}.") for machine, letter in letters.items()]
    for study, record in zip(studies, records, strict=True):
        blocks += _section(study, record, letters)
    return "\n\n".join(blocks) + "\n"


def _section(study: Study, record: Record, letters: Mapping[str, str]) -> list[str]:
    steps = [step for step in study.steps if step.name in record.measurements]
    absent = [paragraph(_absence(step)) for step in study.steps if step.name not in record.measurements]
    if not steps:
        return [f"## {study.title}", *absent]
    measurements = [record.measurements[step.name] for step in steps]
    dates = between(sorted({each.created[:10] for each in measurements}))
    used = sorted({letters[_machine(each.environment)] for each in measurements})
    commands = between(dict.fromkeys(f"`{each.command}`" for each in measurements))
    try:
        described = list(study.describe({step.name: record.measurements[step.name].result for step in steps}))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BenchmarkError(
            f"the record of {study.name} lacks a figure of its section ({type(error).__name__}: {error})",
            f"measure again: python -m benchmarks.results run {study.name}",
        ) from error
    return [
        f"## {study.title}, {dates}",
        paragraph(f"{commands}; machine{'s' * (len(used) > 1)} {between(used)}{_load(measurements)}."),
        *(block if block.startswith("|") else paragraph(block) for block in described),
        *(paragraph(note) for note in _notes(record, steps)),
        *absent,
    ]


def _notes(record: Record, steps: Sequence[Step]) -> Iterator[str]:
    known = {step.name: record.measurements[step.name] for step in steps}
    if typed := [name for name, each in known.items() if each.transcribed]:
        which = "" if len(typed) == len(known) else f": {between(typed)}"
        yield f"Transcribed from what the command printed{which}."
    yield from dict.fromkeys(each.note for each in known.values() if each.note)


def _load(measurements: Iterable[Measurement]) -> str:
    """Reports the load of the machine before the measurement, where it was high."""
    loads = [
        each.environment["load_average"][0]
        for each in measurements
        if each.environment.get("load_average") and each.environment["load_average"][0] > each.environment["cores"] / 2
    ]
    return f"; load average before it began: {max(loads):.1f}" if loads else ""


def _absence(step: Step) -> str:
    if step.gpu:
        return f"Absent, no GPU was at hand: `{step.shown()}`"
    return f"Not run on this machine: `{step.shown()}`"


def _machine(environment: Mapping[str, Any]) -> str:
    memory = environment.get("memory_bytes")
    driver = f" (driver {environment['driver']})" if environment.get("driver") else ""
    parts = [
        f"{environment['cores']} cores of {environment['cpu']}",
        f"{memory / 2**30:.0f} GiB" if memory else "",
        f"{environment.get('gpu') or 'no GPU'}{driver}",
        f"Python {environment['python']}",
        *(f"{name} {version}" for name, version in environment.get("versions", {}).items()),
    ]
    return ", ".join(part for part in parts if part)
