"""A Triton that serves one configuration, and the load on it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.served.target import check_server
from vdeploy.benchmark.tuning.arrivals import Arrivals
from vdeploy.benchmark.tuning.open_loop import Load, Send, run_load
from vdeploy.benchmark.tuning.senders import open_sender
from vdeploy.core.errors import ClientError
from vdeploy.core.files import cache_dir
from vdeploy.core.progress import quietly
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.plans import check_plan, plan_serving
from vdeploy.triton.planning.tuned_serving import Configuration, LoadKind
from vdeploy.triton.repository.options import StreamOptions
from vdeploy.triton.repository.writer import write_plan
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.process_group import new_region_prefix
from vdeploy.triton.server.server import TritonServer

__all__ = ["TrialServer", "open_running_server", "open_trial_server"]

WARMUP_CALLS = 5
LEAST_SECONDS: dict[LoadKind, float] = {"clips": 2.0, "frames": 10.0, "streams": 10.0}
"""How long a load lasts at least, however fast the model; windows of cameras end every few frames."""


@dataclasses.dataclass
class TrialServer:
    """A running server.

    Attributes:
        send: Sends a request.
        kind: What is sent.
        request_s: Seconds of a request where nothing else is sent.
        group: The server's process group; `None` where it may run elsewhere.
        cpu_s: Processor time of all loads so far.
        requests: Requests of all loads so far.
    """

    send: Send
    kind: LoadKind
    request_s: float
    group: int | None = None
    cpu_s: float = 0.0
    requests: int = 0

    def load(self, rate: float, arrivals: Arrivals, requests: int, slo_ms: float, part: int) -> Load:
        """Puts a rate on it.

        Args:
            rate: Requests a second.
            arrivals: When they arrive.
            requests: How many; more where they would take no time.
            slo_ms: Latency objective.
            part: Part of the arrivals.
        """
        count = max(requests, math.ceil(rate * LEAST_SECONDS[self.kind]))
        before = _cpu_seconds(self.group)
        load = run_load(self.send, arrivals.times(rate, count, part), rate, slo_ms)
        self.cpu_s += _cpu_seconds(self.group) - before
        self.requests += len(load.latencies_ms)
        return load


@contextlib.contextmanager
def open_trial_server(
    bundle: Bundle, configuration: Configuration, where: Surroundings, kind: LoadKind
) -> Iterator[TrialServer]:
    """Serves a configuration on this machine while a `with` block lasts, planned and checked as `vdeploy serve` does.

    Args:
        bundle: The bundle.
        configuration: How it is served.
        where: The server and its machine.
        kind: What is to be sent.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: The preflight refuses the configuration, such as for want of memory.
        ServerError: The server cannot be started.
        ClientError: It does not answer.
    """
    prefix = f"{new_region_prefix()}served-"  # as the benchmark's, which removes those of processes that were killed
    with tempfile.TemporaryDirectory(prefix=prefix) as folder, contextlib.ExitStack() as stack:
        root = Path(folder) / "triton_repo"
        with quietly():
            request = configuration.request()
            if kind == "streams":
                streams = dataclasses.replace(request.options, streams=StreamOptions())
                request = dataclasses.replace(request, options=streams)
            plan = plan_serving(bundle, root, request, where)
            check_plan(plan, root, where)
            (port,) = free_ports(1)
            server = TritonServer(
                write_plan(plan, root),
                install=where.install,
                grpc_port=port,
                metrics_port=None,
                log_file=cache_dir() / "triton" / "logs" / "tuning.log",
            )
            stack.enter_context(server)
        send = stack.enter_context(open_sender(server.url, bundle, kind))
        yield TrialServer(send, kind, _request_seconds(send, server.url), server.pid)


@contextlib.contextmanager
def open_running_server(bundle: Bundle, url: str, kind: LoadKind) -> Iterator[TrialServer]:
    """Connects to a server that runs already.

    Args:
        bundle: What it serves.
        url: `HOST:PORT` of its gRPC interface.
        kind: What is to be sent.

    Raises:
        ClientError: It does not answer, serves another bundle, or keeps no streams.
    """
    check_server(url, bundle)
    with open_sender(url, bundle, kind) as send:
        yield TrialServer(send, kind, _request_seconds(send, url))


def _request_seconds(send: Send, url: str) -> float:
    """Seconds of a request alone, the least of a few."""
    found = []
    for _ in range(WARMUP_CALLS):
        load = run_load(send, np.zeros(1), 1.0, math.inf)
        if load.error:
            raise ClientError(f"{url} did not answer ({load.error})", "look at the server's log")
        found.append(float(load.latencies_ms[0]) / 1000)
    return min(found)


def _cpu_seconds(group: int | None) -> float:
    """Processor time of the living processes of a process group; 0 where there is none."""
    if group is None:
        return 0.0
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
