"""`vdeploy doctor`: what this machine has."""

from __future__ import annotations

import dataclasses

from vdeploy.cli.options import JsonOption, print_json, print_table


def doctor(json: JsonOption = False) -> None:
    """Say what this machine has, and what each missing thing would enable."""
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
