"""Starts the process of a row and talks to it; the other side is `vdeploy.benchmark.measure.worker`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
from typing import Any

from vdeploy.benchmark.measure.row_job import Job
from vdeploy.core.child_python import python_command

__all__ = ["Crashed", "Refused", "RowProcess"]

_ENDING_SECONDS = 10
_ERROR = re.compile(r"[\w.]+(Error|Exception)\b")
"""Beginning of the last line of a traceback."""


class Refused(Exception):  # noqa: N818  an expected outcome, not an error
    """A row cannot run on this machine; the message says why and what to do."""


class Crashed(Exception):  # noqa: N818
    """The process of a row has died or failed; the message is its last line of output."""


class RowProcess:
    """A process that measures one row; a context manager.

    A crash of a runtime ends this process alone, its memory can be measured by itself, and libraries that bring
    different versions of a dependency are never loaded together.

    Args:
        job: What it measures.

    Attributes:
        device: Where the row computes: ``"cpu"``, ``"gpu"`` or ``"server"``.

    Raises:
        Refused: The job cannot run on this machine.
        Crashed: The process has died.
    """

    def __init__(self, job: Job) -> None:
        self._stderr = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115  closed below
        self._process = subprocess.Popen(
            python_command("vdeploy.benchmark.measure.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=os.environ | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"},
        )
        try:
            self.device = str(self._ask(job.to_json())["device"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RowProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(_ENDING_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def ask(self, verb: str, value: float | str) -> dict[str, Any]:
        """Sends a command and waits for the answer; see `vdeploy.benchmark.measure.worker`.

        Args:
            verb: The command.
            value: Its argument.

        Raises:
            Refused: The command cannot be executed on this machine.
            Crashed: The process has died.
        """
        return self._ask(json.dumps({verb: value}))

    def _ask(self, line: str) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("both are pipes")
        try:
            stdin.write(line + "\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Crashed(self._exit_message())
        values: dict[str, Any] = json.loads(answer)
        if "refused" in values:
            raise Refused(values["refused"])
        if "failed" in values:
            raise Crashed(values["failed"])
        return values

    def _exit_message(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr if line.strip()]
        errors = [line for line in lines if _ERROR.match(line)] or lines
        ending = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"its process ended with {ending}" + (f": {errors[-1]}" if errors else "")
