"""Start a program some of whose arguments stay hidden from the other users of the machine.

Every user of a machine may read the arguments of every process. An argument that is the name of an environment
variable with the prefix `HIDDEN_ARGUMENT` therefore stays that name in the process list, while the program itself is
given the variable's value: between the program's start and its first instruction, the pointer to the argument is
changed to point at the environment, which the kernel shows to the same user alone. The program is stopped for that by
ptrace(2). Where a container forbids that call, the dynamic loader is stopped instead: a named pipe is given to it as a
library to load first, so it waits until the pipe is closed, and then continues without it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vdeploy.triton.server.confinement import confine, system_library

__all__ = ["HIDDEN_ARGUMENT", "start"]

HIDDEN_ARGUMENT = "VDEPLOY_HIDDEN_ARGUMENT_"
"""Prefix of the environment variables that hold hidden arguments."""

LOADER_SECONDS = 30.0
"""How long the dynamic loader may take to open a library."""
LOADER_POLL_SECONDS = 0.002

PTRACE_TRACEME = 0
PTRACE_DETACH = 17
UNTRACEABLE = 117
"""Exit code of a child that may not be traced."""

_PRELOAD = "LD_PRELOAD"
_WORD = struct.Struct("@Q")
_STACK_FIELD = 28
"""Field of `/proc/PID/stat` with the address of the initial stack: argument count, arguments, environment."""


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Starts the program, stopped before its first instruction while arguments are to be hidden."""
    if not any(argument.startswith(HIDDEN_ARGUMENT) for argument in command):
        return subprocess.Popen(command, preexec_fn=confine)  # noqa: PLW1509  no threads here
    server = subprocess.Popen(command, preexec_fn=_trace_me)  # noqa: PLW1509  no threads here
    _, status = os.waitpid(server.pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        with _killed_on_error(server):
            _hide_arguments(server.pid)
        system_library().ptrace(PTRACE_DETACH, server.pid, None, None)
        return server
    server.returncode = os.waitstatus_to_exitcode(status)
    return _start_in_loader(command) if server.returncode == UNTRACEABLE else server


def _start_in_loader(command: list[str]) -> subprocess.Popen[bytes]:
    """Starts the program, whose dynamic loader waits while arguments are hidden.

    The loader's variable is taken out of the program's environment, too. The loader logs that it ignores the library.
    """
    if os.environ.get(_PRELOAD):
        sys.exit(_cannot_hide())
    with tempfile.TemporaryDirectory(prefix="vdeploy-loader-") as folder:
        pipe = Path(folder, "arguments")
        os.mkfifo(pipe, 0o600)
        environment = os.environ | {_PRELOAD: str(pipe)}
        server = subprocess.Popen(command, preexec_fn=confine, env=environment)  # noqa: PLW1509  no threads here
        with _killed_on_error(server):
            writer = _open_when_read(pipe, server)
            try:
                _hide_arguments(server.pid)
            finally:
                os.close(writer)
    return server


def _open_when_read(pipe: Path, server: subprocess.Popen[bytes]) -> int:
    """Opens a named pipe for writing once the loader has opened it, which then waits for what it is to read.

    Raises:
        OSError: It does not open it.
    """
    deadline = time.monotonic() + LOADER_SECONDS
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline or server.poll() is not None:
                raise
        time.sleep(LOADER_POLL_SECONDS)


@contextlib.contextmanager
def _killed_on_error(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kills a program whose arguments cannot be hidden, and ends this one."""
    try:
        yield
    except OSError:
        server.kill()
        server.wait()
        sys.exit(_cannot_hide())


def _hide_arguments(process: int) -> None:
    """Points the arguments of a stopped program that are names of environment variables at their values.

    The program's own list of variables is made to lack them, so that what it starts does not inherit them.
    """
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    stack = int(fields[_STACK_FIELD - 3])
    with Path(f"/proc/{process}/mem").open("r+b", buffering=0) as memory:
        count = _word(memory, stack)
        arguments = range(stack + 8, stack + 8 * (1 + count), 8)
        variable = stack + 8 * (count + 2)
        first, values = _word(memory, variable), {}
        while address := _word(memory, variable):
            name, _, _ = _string(memory, address).partition(b"=")
            if name.startswith(HIDDEN_ARGUMENT.encode()) or name == _PRELOAD.encode():
                values[name] = address + len(name) + 1
                _write_word(memory, variable, first)  # twice the first variable; the list keeps its length
            variable += 8
        for argument in arguments:
            if address := values.get(_string(memory, _word(memory, argument)), 0):
                _write_word(memory, argument, address)


def _word(memory: BinaryIO, address: int) -> int:
    memory.seek(address)
    return int(_WORD.unpack(memory.read(_WORD.size))[0])


def _write_word(memory: BinaryIO, address: int, value: int) -> None:
    memory.seek(address)
    memory.write(_WORD.pack(value))


def _string(memory: BinaryIO, address: int) -> bytes:
    text = b""
    while b"\0" not in text:
        memory.seek(address + len(text))
        text += memory.read(64)
    return text.partition(b"\0")[0]


def _cannot_hide() -> str:
    return (
        "error: this system lets no process trace its own child or change its memory, so the key of Triton's model "
        "control would stand in the process list (set kernel.yama.ptrace_scope to 0 or 1 and LD_PRELOAD to nothing, or "
        "allow it with VDEPLOY_VISIBLE_KEY=1)"
    )


def _trace_me() -> None:
    confine()
    if system_library().ptrace(PTRACE_TRACEME, 0, None, None) != 0:
        os._exit(UNTRACEABLE)
