"""Carry out all known attacks on vdeploy, on this machine's loopback only: held or fell, one line each.

    python -m benchmarks.attacks                         # all attacks
    python -m benchmarks.attacks --only headers          # those whose name contains a word
    python -m benchmarks.attacks --soak 10               # minutes of good clients beside bad ones: see gateway_soak

An attack is a group of tests that cause the fault: vdeploy has held if all of them pass, and has fallen if one fails.
Tests that this machine cannot run, for want of a Triton or of root, are counted as skipped. The exit code is 1 if one
attack succeeded or could not be tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benchmarks.gateway_soak import as_text as soak_as_text
from benchmarks.gateway_soak import soak
from benchmarks.output import add_output_options, report_result
from vdeploy.core.progress import say

ROOT = Path(__file__).parents[1]
LIMIT_S = 900
GATEWAY = "tests/gateway/test_gateway_"


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack and the tests that carry it out.

    Attributes:
        name: What the attacker tries.
        tests: Files of tests.
        words: An expression of pytest that chooses among their tests; empty for all.
    """

    name: str
    tests: tuple[str, ...]
    words: str = ""


ATTACKS = (
    Attack("read the control key, load a model as another user", ("tests/triton/test_model_control_access.py",)),
    Attack("change a repository before it is served", ("tests/triton/test_served_files.py",)),
    Attack("change a signed bundle", ("tests/artifacts/test_signing.py", "tests/artifacts/test_uncovered_files.py")),
    Attack("write one folder with two commands at once", ("tests/core/test_locks.py",)),
    Attack("starve customers by asking for health", (f"{GATEWAY}health.py",)),
    Attack("begin and delete streams without end", (f"{GATEWAY}streams.py",), "begin or deleted or disconnects"),
    Attack("starve others with one key", (f"{GATEWAY}streams.py",), "key or turns or owner"),
    Attack("read events without end", (f"{GATEWAY}streams.py",), "reader or reads"),
    Attack("fill memory with headers, parts and bodies", (f"{GATEWAY}connections.py",), "headers or parts or bodies"),
    Attack("hold connections open", (f"{GATEWAY}connections.py",), "time"),
    Attack("rebind a name, post from another site", (f"{GATEWAY}connections.py",), "host or site or page or machine"),
    Attack("fill the disk, hang up the terminal", (f"{GATEWAY}connections.py",), "spool or sighup"),
    Attack("read the passwords of cameras", (f"{GATEWAY}secrets.py",)),
    Attack("take a decoder over", (f"{GATEWAY}decoding.py",), "little or kernel or hangs or killed or costs"),
    Attack("send playlists and growing frames", (f"{GATEWAY}hostile_files.py",)),
    Attack("send damaged videos and random requests", (f"{GATEWAY}abuse.py",)),
    Attack("redirect a webhook", ("tests/live/test_webhook.py",), "redirection or proxy or malformed"),
)


def main() -> None:
    """Run the attacks that the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="attacks whose name contains this")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="good clients beside bad ones for so long")
    add_output_options(parser)
    options = parser.parse_args()
    if options.soak:
        found = soak(options.soak * 60)
        report_result(options, {"soak": found}, soak_as_text(found))
        return
    rows = [carry_out(attack) for attack in ATTACKS if options.only in attack.name]
    report_result(options, {"attacks": rows}, as_text(rows))
    sys.exit(any(not row["held"] for row in rows))


def carry_out(attack: Attack) -> dict[str, Any]:
    """Run the tests of one attack.

    Args:
        attack: The attack.

    Returns:
        JSON-ready: its name, whether it was held off, and the numbers of tests.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-k", attack.words] if attack.words else []
        command = [sys.executable, "-m", "pytest", *attack.tests, *words, "-m", "slow or not slow", "-q"]
        try:
            subprocess.run(
                [*command, "-p", "no:cacheprovider", f"--junitxml={report}"],
                cwd=ROOT,
                check=False,
                capture_output=True,
                timeout=LIMIT_S,
            )
            suite = next(ET.parse(report).iter("testsuite")).attrib  # noqa: S314  written by pytest
        except (subprocess.TimeoutExpired, FileNotFoundError):
            suite = {"tests": "0", "failures": "1", "errors": "0", "skipped": "0"}
    tests, skipped = int(suite["tests"]), int(suite["skipped"])
    failed = int(suite["failures"]) + int(suite["errors"])
    row = {
        "attack": attack.name,
        "held": not failed and tests > skipped,
        "tests": tests,
        "failed": failed,
        "skipped": skipped,
        "seconds": round(time.perf_counter() - started, 1),
    }
    say(line_of(row))
    return row


def line_of(row: dict[str, Any]) -> str:
    """Format one attack as text."""
    verdict = "held" if row["held"] else "FELL" if row["failed"] else "not tried"
    skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
    return f"{verdict:9} {row['attack']:52} {row['tests'] - row['failed'] - row['skipped']} of {row['tests']}{skipped}"


def as_text(rows: list[dict[str, Any]]) -> str:
    """Format the result as text."""
    held = sum(row["held"] for row in rows)
    return "\n".join([*map(line_of, rows), f"{held} of {len(rows)} attacks held"])


if __name__ == "__main__":
    main()
