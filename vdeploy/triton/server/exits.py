"""How a server process has ended, and why it is not ready, as errors of one line."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

from vdeploy.core.errors import ServerError
from vdeploy.triton.client.server_log import reason_in
from vdeploy.triton.server.reaper import CRASH_SECONDS

__all__ = ["ended", "late", "was_killed"]


def ended(process: subprocess.Popen[bytes], log: Path, since: int = 0) -> ServerError:
    """The error of a process that has ended.

    Args:
        process: The server's reaper, which ends as the server did.
        log: What the server has printed.
        since: The byte from which on the log may tell why: when it was that long, all was well.
    """
    code = process.poll() or 0
    if -code == signal.SIGKILL:
        how = "was ended by SIGKILL, as the system does where memory runs out"
    elif code < 0:
        how = f"was ended by {_signal_name(-code)}: {_reason(log, since, crashed=True)}"
    else:
        how = f"ended with exit code {code}: {_reason(log, since)}"
    return ServerError(f"Triton {how}", f"its log is {log}")


def late(seconds: float, log: Path) -> ServerError:
    """The error of a server that is not ready after so many seconds."""
    return ServerError(f"Triton was not ready after {seconds:g} s: {_reason(log)}", f"its log is {log}")


def was_killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether a signal has ended the server, which its reaper may be about to notice."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(2 * CRASH_SECONDS) < 0
    return False


def _reason(log: Path, since: int = 0, *, crashed: bool = False) -> str:
    return reason_in(log, since, crashed=crashed) or "its log gives no reason"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
