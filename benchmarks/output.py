"""Output of every benchmark: text for people, and JSON with machine, versions and date."""

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

__all__ = ["add_output_options", "report_result"]


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json`` and ``--out`` to a parser, and records the load of the machine before the measurement."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON to this file as well")
    parser.set_defaults(load_average=os.getloadavg())


def report_result(options: argparse.Namespace, result: Mapping[str, Any], text: str) -> None:
    """Prints a result and writes it to the file of ``--out``.

    The JSON begins with ``created``, ``command`` and ``environment``, as in a `benchmark.json`.

    Args:
        options: The parsed options of `add_output_options`.
        result: The result, JSON-ready.
        text: The result as text.
    """
    environment = describe_machine(available_cores()).model_dump(mode="json")
    document = {
        "created": now(),
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "environment": {**environment, "load_average": list(options.load_average)},
        **result,
    }
    if options.out:
        write_json(options.out, document)
    print(json.dumps(document, indent=2) if options.json else text)
