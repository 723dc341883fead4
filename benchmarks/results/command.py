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
    """Runs a command in an empty folder and reads the JSON that it gives.

    Verbs of vdeploy print it with ``--json``; everything else is Python, and writes it with ``--out FILE``. Exit code 1
    with a result says that a goal was missed: that counts.

    Args:
        words: The command.
        folder: For its result, and for what it leaves in its working folder.
        tell: Given each line that it writes to stderr.

    Raises:
        BenchmarkError: It failed, or gave no JSON.
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
    reason = " | ".join(last) or "it told no reason"
    if process.returncode not in (0, 1):
        raise BenchmarkError(f"{shlex.join(words)} ended with {process.returncode}: {reason}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{shlex.join(words)} gave no result: {reason}") from error


@contextlib.contextmanager
def _started(command: Sequence[str], work: Path, stdout: IO[bytes] | int) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block.

    It has a session of its own, so that Ctrl-C reaches it once, from here, and it can put away what it has begun.
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
