"""How every benchmark gives its result: as text for people, and as JSON with the machine, the versions and the date."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdeploy.benchmark.measure.machine import describe_machine
from vdeploy.core.files import write_json
from vdeploy.core.timestamps import now
from vdeploy.inference.runtimes.base import available_cores

__all__ = ["add_output_options", "give"]


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json`` and ``--out``, and notes how busy the machine is now, before anything is measured."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON to this file as well")
    parser.set_defaults(load_average=os.getloadavg())


def give(options: argparse.Namespace, result: Mapping[str, Any], text: str) -> None:
    """Prints a result and writes it where it was asked for.

    The JSON has ``created``, ``command`` and ``environment`` in front, as a `benchmark.json` has them.

    Args:
        options: As parsed by a parser that `add_output_options` has seen.
        result: JSON-ready.
        text: The same for people.
    """
    environment = describe_machine(available_cores()).model_dump(mode="json")
    told = {
        "created": now(),
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "environment": {**environment, "load_average": list(options.load_average)},
        **result,
    }
    if options.out:
        write_json(options.out, told)
    print(json.dumps(told, indent=2) if options.json else text)
