"""Studies whose commands take a moment."""

from __future__ import annotations

import shlex
from typing import Any

from benchmarks.results.study import Step, Study, single

ENVIRONMENT = {
    "cpu": "Abacus",
    "cores": 2,
    "memory_bytes": 2**34,
    "gpu": None,
    "python": "3.12",
    "versions": {"a": "1"},
}


def python(code: str, *arguments: str) -> str:
    """A command that runs code, in which `result(VALUE)` writes the JSON; its arguments are `sys.argv[1:]`."""
    writes = "import json, sys, time\ndef result(value): open(sys.argv[-1], 'w').write(json.dumps(value))\n"
    return " ".join(["python", "-c", shlex.quote(writes + code).replace("{", "{{").replace("}", "}}"), *arguments])


def fake(name: str, code: str = "result({'speed': 3})", *arguments: str, gpu: bool = False) -> Study:
    """A study of one command."""
    return single(name, f"The {name}", python(code, *arguments), _describe, gpu=gpu)


def steps(name: str, **codes: str) -> Study:
    """A study of several commands."""
    made = tuple(Step(step, python(code)) for step, code in codes.items())
    return Study(name, name, made, _describe_steps)


def _describe_steps(found: dict[str, Any]) -> list[str]:
    rows = (f"| {step} | {result['speed']} |" for step, result in found.items())
    return ["\n".join(["| step | speed |", "|---|---|", *rows])]


def _describe(found: dict[str, Any]) -> list[str]:
    return [f"A speed of {found['speed']}.", f"| speed | |\n|---|---|\n| {found['speed']} | |"]
