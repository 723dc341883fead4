"""Damaged videos sent to the gateway: the mutations of the tests, in any number.

    python -m benchmarks.mutations [--count 1000] [--json] [--out FILE]

Mutated videos are sent to a real gateway; each has to be answered with a verdict, a refusal or, briefly, 503, and the
gateway has to be ready afterwards. The command runs a test of the gateway and needs the packages of the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.output import add_output_options, report_result

ROOT = Path(__file__).parents[1]
TEST = "tests/gateway/test_gateway_abuse.py::test_damaged_videos_harm_nobody"


def main() -> int:
    """Runs the test; 0 if it passed, its exit code if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="mutated videos (%(default)s)")
    add_output_options(parser)
    options = parser.parse_args()
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-p", "no:cacheprovider", TEST]
    environment = {**os.environ, "VDEPLOY_MUTATIONS": str(options.count)}
    code = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode
    if code in (0, 1):
        seconds = round(time.monotonic() - started, 1)
        result = {"count": options.count, "passed": code == 0, "seconds": seconds}
        report_result(
            options, result, f"{options.count} mutated videos: {'passed' if code == 0 else 'FAILED'} in {seconds} s"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
