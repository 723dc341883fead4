"""A process that forks a confined child for each file: ``python -m vdeploy.gateway.decoding.worker``.

Decoders are loaded once, here; files are opened in children only. A child that ends as it should is followed by the
next job. One that was killed may have left half a message, so this process ends too and the gateway starts another.
With ``--network``, for cameras, it keeps the network.
"""

from __future__ import annotations

import os
import signal
import sys

from vdeploy.gateway.decoding.confinement import confine, leave_network

__all__ = ["main"]


def main() -> int:
    """Decodes one file after another until standard input ends; returns the exit code."""
    if "--network" not in sys.argv:
        leave_network()
    from vdeploy.gateway.decoding.decode import decode  # noqa: PLC0415  threads may start only after that
    from vdeploy.gateway.decoding.job import Job, write_message  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    write_message(sys.stdout.buffer, {"ready": True})
    while line := sys.stdin.buffer.readline():
        child = os.fork()
        if child == 0:
            job = Job.from_line(line)
            confine(job.limits)
            decode(job, sys.stdout.buffer)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            return code if code > 0 else 128 - code
    return 0


if __name__ == "__main__":
    sys.exit(main())
