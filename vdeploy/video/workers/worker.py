"""A process that forks a confined child for each file, or for each group of files.

Decoders are loaded once, here; files are opened in children only. A child that exits normally, or is cancelled, is
followed by the next request. One that was killed otherwise may have left half a message, so this process ends too, by
the same signal number, and another is started. It ends with the process that started it, however that ends. Options:
``--tasks=A,B`` are what it can do; with ``--network``, for cameras, it keeps the network; ``--nice=N`` lowers its
priority; ``--cancel=FD`` is the pipe by which a child is cancelled.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import pkgutil
import select
import signal
import sys
from collections.abc import Mapping

from vdeploy.video.workers.cancelling import acknowledge
from vdeploy.video.workers.confinement import confine, leave_network, missing_confinement
from vdeploy.video.workers.messages import END_OF_GROUP, OUT_OF_MEMORY, Channel, Request, Task

__all__ = ["main"]

_CHECK_MS = 100
_CLOSED = select.POLLHUP | select.POLLERR | select.POLLNVAL


def main() -> int:
    """Decode one file after another until standard input ends; return the exit code."""
    options = dict(option[2:].partition("=")[::2] for option in sys.argv if option.startswith("--"))
    network, cancel = "network" in options, int(options["cancel"])
    # Not a session of its own: Linux gives each session the same share of the processors, whatever the priorities are
    # (sched(7), autogroup).
    os.setpgid(0, 0)
    os.nice(int(options["nice"]))
    if not network:
        leave_network()
    tasks = _load(options["tasks"].split(","))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    gc.freeze()  # no collection in a child touches, and so copies, the memory that it shares with this process
    channel = Channel(sys.stdin.buffer, sys.stdout.buffer)
    parent = _watch(os.getppid())
    channel.send({"ready": True, "missing": missing_confinement()})
    number = 0
    while line := _next_line(channel, cancel, number):
        number += 1
        request = Request.from_line(line)
        child = os.fork()
        if child == 0:
            try:
                os.close(cancel)
                _decode(request, tasks, channel, network=network)
            except BaseException as error:
                is_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
                os._exit(OUT_OF_MEMORY if is_memory else 1)
            os._exit(0)
        status = _wait(child, parent, cancel)
        if status is None:
            number = acknowledge(cancel, channel, number)
            continue
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            return code if code > 0 else 128 - code
        if request.group:
            channel.send({"ready": True})
    return 0


def _load(names: list[str]) -> Mapping[str, Task]:
    """Import all that decoding needs: a confined child can open no module, and what it finds out is lost with it."""
    import cv2  # noqa: PLC0415  threads may start only after the network has been left

    from vdeploy.video.formats import self_contained_formats  # noqa: PLC0415
    from vdeploy.video.workers.tasks import load_task  # noqa: PLC0415

    for package in ("av", "vdeploy.video"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    self_contained_formats()
    cv2.setNumThreads(1)
    return {name: load_task(name) for name in names}


def _decode(request: Request, tasks: Mapping[str, Task], channel: Channel, *, network: bool) -> None:
    """Decode a source, and the further ones of its group as they are asked for."""
    os.nice(request.nice)
    confine(request.limits, *(request.group or [request.source]), network=network)
    tasks[request.task].run(request, channel)
    while request.group and (line := channel.receive()) not in {b"", END_OF_GROUP}:
        following = Request.from_line(line)
        tasks[following.task].run(following, channel)


def _watch(pid: int) -> int | None:
    """A descriptor that becomes readable when a process ends, where the system has such."""
    with contextlib.suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return None


def _next_line(channel: Channel, cancel: int, number: int) -> bytes:
    """The next request; a cancellation that comes after its child has ended is acknowledged."""
    either = select.poll()
    either.register(sys.stdin.fileno(), select.POLLIN)
    either.register(cancel, select.POLLIN)
    while sys.stdin.fileno() not in (ready := dict(either.poll())):
        if not ready[cancel] & select.POLLIN:
            return b""
        acknowledge(cancel, channel, number)
    return channel.receive()


def _wait(child: int, parent: int | None, cancel: int) -> int | None:
    """Wait for a child, and end it if the parent of this process ends before it; return its status.

    Returns:
        ``None`` if the child's request was cancelled, or the next one, which waits for the child to exit.
    """
    own = _watch(child)
    ends = select.poll()
    ends.register(sys.stdin.fileno(), 0)
    ends.register(cancel, select.POLLIN)
    for descriptor in (own, parent):
        if descriptor is not None:
            ends.register(descriptor, select.POLLIN)
    try:
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return status
            events = dict(ends.poll(None if own is not None else _CHECK_MS))
            if parent in events or events.get(sys.stdin.fileno(), 0) & _CLOSED:
                os.kill(child, signal.SIGKILL)
                return os.waitpid(child, 0)[1]
            if cancel in events:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None
    finally:
        if own is not None:
            os.close(own)


if __name__ == "__main__":
    sys.exit(main())
