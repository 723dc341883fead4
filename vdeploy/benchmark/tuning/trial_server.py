"""A Triton that serves one configuration, and the load on it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.subjects import distinct_inputs
from vdeploy.benchmark.served.models import served_model
from vdeploy.benchmark.tuning.arrivals import Arrivals
from vdeploy.benchmark.tuning.open_loop import DRAIN_SECONDS, Load, Send, run_load
from vdeploy.core.errors import ClientError
from vdeploy.core.files import cache_dir
from vdeploy.core.progress import quietly
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.plans import check_plan, plan_serving
from vdeploy.triton.planning.tuned_serving import Configuration
from vdeploy.triton.repository.writer import write_plan
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.process_group import new_region_prefix
from vdeploy.triton.server.server import TritonServer

__all__ = ["TrialServer", "open_trial_server"]

WARMUP_CALLS = 5
LEAST_SECONDS = 2.0
"""How long a load lasts at least, however fast the model."""


@dataclasses.dataclass
class TrialServer:
    """A running server.

    Attributes:
        send: Sends a clip.
        clip_s: Seconds of a clip where nothing else is sent.
        group: The server's process group.
        cpu_s: Processor time of all loads so far.
        clips: Clips of all loads so far.
    """

    send: Send
    clip_s: float
    group: int
    cpu_s: float = 0.0
    clips: int = 0

    def load(self, rate: float, arrivals: Arrivals, requests: int, slo_ms: float, part: int) -> Load:
        """Puts a rate on it.

        Args:
            rate: Clips a second.
            arrivals: When they arrive.
            requests: How many; more where they would take no time.
            slo_ms: Latency objective.
            part: Part of the arrivals.
        """
        count = max(requests, math.ceil(rate * LEAST_SECONDS))
        before = _cpu_seconds(self.group)
        load = run_load(self.send, arrivals.times(rate, count, part), rate, slo_ms)
        self.cpu_s += _cpu_seconds(self.group) - before
        self.clips += len(load.latencies_ms)
        return load


@contextlib.contextmanager
def open_trial_server(bundle: Bundle, configuration: Configuration, where: Surroundings) -> Iterator[TrialServer]:
    """Serves a configuration on this machine while a `with` block lasts, planned and checked as `vdeploy serve` does.

    Args:
        bundle: The bundle.
        configuration: How it is served.
        where: The server and its machine.

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
            plan = plan_serving(bundle, root, configuration.request(), where)
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
        client = stack.enter_context(triton.InferenceServerClient(server.url))
        send = _sender(server.url, client, bundle)
        yield TrialServer(send, _clip_seconds(send, server.url), server.pid)


def _sender(url: str, client: triton.InferenceServerClient, bundle: Bundle) -> Send:
    model = served_model("pipeline", bundle.manifest)
    inputs = []
    for clip in distinct_inputs(bundle.manifest, "pipeline", 1):
        tensor = triton.InferInput(model.input_name, clip.shape, np_to_triton_dtype(clip.dtype))
        tensor.set_data_from_numpy(clip)
        inputs.append(tensor)
    output = triton.InferRequestedOutput(model.output_name)

    def send(index: int, done: Callable[[Exception | None], None]) -> None:
        def answered(result: Any, error: Exception | None) -> None:
            found = None if error else result.as_numpy(model.output_name)
            wrong = found is not None and found.shape != (1, *model.output_shape)
            done(ClientError(f"{url} answers with shape {found.shape}") if wrong and found is not None else error)

        try:
            client.async_infer(
                model.name,
                [inputs[index % len(inputs)]],
                answered,
                outputs=[output],
                client_timeout=DRAIN_SECONDS,
            )
        except InferenceServerException as error:
            done(error)

    return send


def _clip_seconds(send: Send, url: str) -> float:
    """Seconds of a clip alone, the least of a few."""
    found = []
    for _ in range(WARMUP_CALLS):
        load = run_load(send, np.zeros(1), 1.0, math.inf)
        if load.error:
            raise ClientError(f"{url} did not answer ({load.error})", "look at the server's log")
        found.append(float(load.latencies_ms[0]) / 1000)
    return min(found)


def _cpu_seconds(group: int) -> float:
    """Processor time of the living processes of a process group."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
