"""Start of a decoder process: its pipes, its environment and its memory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Sequence

from vdeploy.core.child_python import python_command
from vdeploy.video.workers.cancelling import CancelPipe
from vdeploy.video.workers.message_reader import MessageReader

__all__ = ["launch"]

_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_WORKER = "vdeploy.video.workers.worker"
_PASSED_ON = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TZ", "VIRTUAL_ENV")
_PASSED_ON_TO_CAMERAS = ("http_proxy", "no_proxy")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
"""Has the C library keep the memory of a camera's last frame for the next one, which costs less processor
time than to give it back each time."""


def launch(options: Sequence[str], *, network: bool) -> tuple[subprocess.Popen[bytes], MessageReader, CancelPipe]:
    """Start a decoder process, which says later that it is ready.

    Args:
        options: Of `vdeploy.video.workers.worker`.
        network: Whether it may reach the network, for cameras.

    Returns:
        The process, a reader of its messages, and what cancels a request.

    Raises:
        OSError: The system starts no process.
    """
    names = (*_PASSED_ON, *(_PASSED_ON_TO_CAMERAS if network else ()))
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= _ONE_THREAD | (_KEPT_MEMORY if network else {})
    cancelling = CancelPipe()
    try:
        process = subprocess.Popen(
            python_command(_WORKER, *options, f"--cancel={cancelling.passed_on}"),
            pass_fds=[cancelling.passed_on],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
        )
    except OSError:
        cancelling.close()
        raise
    finally:
        cancelling.keep_one_end()
    assert process.stdout is not None  # noqa: S101  opened as a pipe
    with contextlib.suppress(OSError):  # Linux alone has it, and limits it for each user
        fcntl.fcntl(process.stdout, _F_SETPIPE_SZ, _PIPE_BYTES)
    return process, MessageReader(process.stdout), cancelling
