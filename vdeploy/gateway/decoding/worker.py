"""A process that forks a confined child for each file.

Decoders are loaded once, here; files are opened in children only. A child that exits normally is followed by the next
job. One that was killed may have left half a message, so this process ends too and the gateway starts another. With
``--network``, for cameras, it keeps the network; ``--nice=N`` lowers its priority.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys

from vdeploy.gateway.decoding.confinement import confine, leave_network, missing_confinement

__all__ = ["main"]


def main() -> int:
    """Decode one file after another until standard input ends; return the exit code."""
    network = "--network" in sys.argv
    os.nice(next(int(option.partition("=")[2]) for option in sys.argv if option.startswith("--nice=")))
    if not network:
        leave_network()
    from vdeploy.gateway.decoding.decode import decode  # noqa: PLC0415  threads may start only after that
    from vdeploy.gateway.decoding.job import Job, write_message  # noqa: PLC0415

    for package in ("av", "vdeploy.video"):
        _import_all(package)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    write_message(sys.stdout.buffer, {"ready": True, "missing": missing_confinement()})
    while line := sys.stdin.buffer.readline():
        child = os.fork()
        if child == 0:
            job = Job.from_line(line)
            try:
                confine(job.limits, job.source, network=network)
                decode(job, sys.stdout.buffer)
            except BaseException:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            return code if code > 0 else 128 - code
    return 0


def _import_all(name: str) -> None:
    """Import a package with all its modules: a confined child can open no module."""
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)


if __name__ == "__main__":
    sys.exit(main())
