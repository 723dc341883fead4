"""Run a server for its supervisor, hide its secret arguments, and end it when the supervisor dies.

    python reaper.py SUPERVISOR_PID REGION_PREFIX SCRATCH PROGRAM [ARGUMENT ...]

A killed supervisor cannot clean up, and a Triton stub may outlive a killed Triton. So this small program, the leader of
the server's process group, waits for either end: it ends as the server ended, or it removes the server's shared memory
and temporary files and kills the whole group. It imports the standard library alone.

Every user of a machine may read the arguments of every process. An argument that is the name of an environment
variable with the prefix `HIDDEN_ARGUMENT` therefore stays that name in the process list, while the program itself is
given the variable's value: between the program's start and its first instruction, the pointer to the argument is
changed to point at the environment, which the kernel shows to the same user alone. The program is stopped for that by
ptrace(2). Where a container forbids that call, the dynamic loader is stopped instead: a named pipe is given to it as a
library to load first, so it waits until the pipe is closed, and then continues without it.

Triton prints its stack when it crashes, and then ends. Where another of its threads holds a lock that the printing
needs, it continues instead, with one thread less and without reacting to SIGTERM; then the reaper ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["HIDDEN_ARGUMENT", "main", "remove_regions"]

HIDDEN_ARGUMENT = "VDEPLOY_HIDDEN_ARGUMENT_"
"""Prefix of the environment variables that hold hidden arguments."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where the kernel keeps POSIX shared memory
POLL_SECONDS = 0.2
LOADER_SECONDS = 30.0
"""How long the dynamic loader may take to open a library."""
CRASH_SECONDS = 2.0
"""How long a server may take to end once it has printed that it crashes."""

LOADER_POLL_SECONDS = 0.002

PR_SET_PDEATHSIG = 1
PTRACE_TRACEME = 0
PTRACE_DETACH = 17
UNTRACEABLE = 117
"""Exit code of a child that may not be traced."""

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_SUCCESS = 0x0005_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000
BPF_LOAD = 0x20
BPF_JUMP_IF_EQUAL = 0x15
BPF_RETURN = 0x06

_FCHMOD = {"x86_64": (0xC000_003E, 91), "aarch64": (0xC000_00B7, 52)}
"""Number of the architecture, and of fchmod(2) on it."""

_BPF_STEP = struct.Struct("@HBBI")
_CRASH = re.compile(rb"^Signal \((6|11)\) received", re.MULTILINE)
_PRELOAD = "LD_PRELOAD"
_WORD = struct.Struct("@Q")
_STACK_FIELD = 28
"""Field of `/proc/PID/stat` with the address of the initial stack: argument count, arguments, environment."""


def main(arguments: list[str]) -> None:
    """Runs the server to its end or to the supervisor's.

    Args:
        arguments: The supervisor's process id, the prefix of the server's shared memory, the folder of its temporary
            files or nothing, the program, its arguments.
    """
    supervisor, prefix, scratch, *command = arguments
    try:
        server = _start(command)
    except OSError as error:
        sys.exit(f"error: {command[0]} cannot be run: {error.strerror}")
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    log = _Log(1)
    while server.poll() is None:
        if os.getppid() != int(supervisor):
            remove_regions(prefix)
            if scratch:
                shutil.rmtree(scratch, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)
        if crash := log.crash():
            _end_late(server, crash)
        time.sleep(POLL_SECONDS)
    if server.returncode < 0:
        _end_by(-server.returncode)
    sys.exit(server.returncode)


def remove_regions(prefix: str) -> None:
    """Removes the shared memory regions whose names begin with `prefix`."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            region.unlink()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """Starts the program, stopped before its first instruction while arguments are to be hidden."""
    if not any(argument.startswith(HIDDEN_ARGUMENT) for argument in command):
        return subprocess.Popen(command, preexec_fn=_prepare)  # noqa: PLW1509  no threads here
    server = subprocess.Popen(command, preexec_fn=_trace_me)  # noqa: PLW1509  no threads here
    _, status = os.waitpid(server.pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        with _killed_on_error(server):
            _hide_arguments(server.pid)
        _libc().ptrace(PTRACE_DETACH, server.pid, None, None)
        return server
    server.returncode = os.waitstatus_to_exitcode(status)
    return _start_in_loader(command) if server.returncode == UNTRACEABLE else server


def _start_in_loader(command: list[str]) -> subprocess.Popen[bytes]:
    """Starts the program, whose dynamic loader waits while arguments are hidden.

    The loader's variable is taken out of the program's environment, too. The loader logs that it ignores the library.
    """
    if _PRELOAD in os.environ:
        sys.exit(_cannot_hide())
    with tempfile.TemporaryDirectory(prefix="vdeploy-loader-") as folder:
        pipe = Path(folder, "arguments")
        os.mkfifo(pipe, 0o600)
        environment = os.environ | {_PRELOAD: str(pipe)}
        server = subprocess.Popen(command, preexec_fn=_prepare, env=environment)  # noqa: PLW1509  no threads here
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


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("steps", ctypes.c_ushort), ("code", ctypes.c_void_p))


class _Log:
    """The server's output, read as it grows, if it goes to a file: reading a pipe would consume it."""

    def __init__(self, descriptor: int) -> None:
        self._file = Path(f"/proc/self/fd/{descriptor}")
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._read = 0

    def crash(self) -> int:
        """Number of the signal that a fault of the server has raised, by its log; 0 for none."""
        if not self._is_file:
            return 0
        with contextlib.suppress(OSError), self._file.open("rb") as file:
            file.seek(self._read)
            text = file.read()
            self._read += text.rfind(b"\n") + 1
            if found := _CRASH.search(text):
                return int(found[1])
        return 0


def _end_late(server: subprocess.Popen[bytes], crash: int) -> None:
    """Ends a server that has crashed but continues, and this process as the crash should have."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(CRASH_SECONDS)
        return
    sys.stderr.write("error: Triton had crashed but did not end; it was killed\n")
    server.kill()
    server.wait()
    _end_by(crash)


def _end_by(number: int) -> None:
    """Ends as the server did, so that the supervisor can distinguish a crash from a kill; only it dumps core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _prepare() -> None:
    """Has the child die with this process, and keeps other users out of the shared memory that it makes.

    Boost, by which Triton and its stubs share memory, makes each region readable to everybody by fchmod(2), whatever
    the umask. So a filter answers that call with success and leaves the mode as it is.
    """
    libc = _libc()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.umask(0o077)
    architecture, fchmod = _FCHMOD.get(platform.machine(), (0, 0))
    if not architecture:
        return
    steps = (
        (BPF_LOAD, 0, 0, 4),
        (BPF_JUMP_IF_EQUAL, 0, 3, architecture),
        (BPF_LOAD, 0, 0, 0),
        (BPF_JUMP_IF_EQUAL, 0, 1, fchmod),
        (BPF_RETURN, 0, 0, SECCOMP_RET_SUCCESS),
        (BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(_BPF_STEP.pack(*step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)


def _trace_me() -> None:
    _prepare()
    if _libc().ptrace(PTRACE_TRACEME, 0, None, None) != 0:
        os._exit(UNTRACEABLE)


def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    library.ptrace.restype = ctypes.c_long
    library.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return library


if __name__ == "__main__":
    main(sys.argv[1:])
