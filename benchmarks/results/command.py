"""Runs one command of a study and reads its JSON."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from vdeploy.core.errors import BenchmarkError

__all__ = ["output_of"]

_ROOT = Path(__file__).parents[2]
_TOLD_LINES = 5
_END_SECONDS = 20.0


def output_of(words: Sequence[str], folder: Path, tell: Callable[[str], None]) -> Any:
    """Runs a command in an empty folder and reads its JSON.

    Commands of vdeploy print it with ``--json``; all others are Python and write it with ``--out FILE``. Exit code 1
    with a result means that a goal was missed; the result is kept.

    Args:
        words: The command.
        folder: Folder for the result and for the working folder of the command.
        tell: Called with each line that the command writes to stderr.

    Raises:
        BenchmarkError: The command failed, or wrote no JSON.
    """
    file, work = folder / "result.json", folder / "work"
    work.mkdir()
    program, *arguments = words
    last: collections.deque[str] = collections.deque(maxlen=_TOLD_LINES)
    with contextlib.ExitStack() as stack:
        if program == "vdeploy":
            stdout: IO[bytes] | int = stack.enter_context(file.open("wb"))
            command = [sys.executable, "-m", "vdeploy", *arguments, "--json"]
        else:
            stdout = subprocess.DEVNULL
            command = [sys.executable, *arguments, "--out", str(file)]
        with _started(command, work, stdout) as process:
            for line in process.stderr or ():
                if text := line.strip():
                    last.append(text)
                    tell(text)
    reason = " | ".join(last) or "it printed no reason"
    if process.returncode not in (0, 1):
        raise BenchmarkError(f"{shlex.join(words)} ended with {process.returncode}: {reason}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{shlex.join(words)} gave no result: {reason}") from error


@contextlib.contextmanager
def _started(command: Sequence[str], work: Path, stdout: IO[bytes] | int) -> Iterator[subprocess.Popen[str]]:
    """Starts a process that ends with the block.

    It has its own session, so that Ctrl-C reaches it once, from here, and it can clean up.
    """
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        command,
        cwd=work,
        env={**os.environ, "PYTHONPATH": path},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
