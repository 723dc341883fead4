"""`vdeploy doctor`: examine this machine."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, print_json, print_table

MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Instead, time training steps in every precision, with and without XLA.")
]


def doctor(measure: MeasureOption = False, json: JsonOption = False) -> None:
    """List what this machine has, and what each missing part would enable."""
    if measure:
        _measure(json=json)
        return
    from vdeploy.doctor import examine  # noqa: PLC0415  keeps --help fast

    findings = examine()
    if json:
        print_json([dataclasses.asdict(finding) for finding in findings])
        return
    rows = [
        ("yes" if finding.found else "no", finding.name, finding.detail, finding.enables, finding.remedy)
        for finding in findings
    ]
    print_table(("", "part", "found", "enables", "to get it"), rows)


def _measure(*, json: bool) -> None:
    from training.engine.step_benchmark import measure_step  # noqa: PLC0415  keeps --help fast

    times = measure_step()
    if json:
        print_json([dataclasses.asdict(time) for time in times])
        return
    rows = [
        (
            time.precision,
            "yes" if time.xla else "no",
            f"{time.milliseconds:.1f}",
            ", ".join(word for word in ("fastest" * time.fastest, "the default" * time.default) if word),
        )
        for time in times
    ]
    print_table(("training.precision", "training.xla", "ms a step", ""), rows, title="64 clips x 16 x 4096")
