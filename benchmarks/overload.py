"""Goodput of a gateway and of Triton under more load than they can serve.

    python -m benchmarks.overload [--seconds 10] [--deadline-ms 2000] [--without-triton]

Clips arrive at random times (Poisson, so whatever the answers do) at 0.5 to 3 times the rate that holds: the highest of
a few at which 99 % of the clips are answered within the deadline. Goodput counts the answers within the deadline, by
the client's clock. Each server is measured bounded and unbounded. The model is a small one that takes some 80 ms of a
core for a clip; servers have one core, the clients another, where there are two.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import io
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from benchmarks.output import add_output_options, report_result
from testing.running_gateway import running_gateway
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.tuning.arrivals import poisson_arrivals
from vdeploy.core.progress import say
from vdeploy.triton.names import ENSEMBLE_MODEL, FRAMES
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer

MULTIPLES = (0.5, 1.0, 1.5, 2.0, 3.0)
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6)
"""Shares of the closed-loop throughput that are tried as the rate that holds."""

SHARE_SENT = 0.9
"""Of a client's deadline, which it sends: the rest is for the way to the server and back."""

UNBOUNDED = ("--max-queue", "1000000", "--max-requests", "100000")
HEADERS = {"Content-Type": "application/octet-stream"}
FRAMES_OF_CLIP, SIZE, DIM, WORK = 16, 32, 512, 240

Send = Callable[[float], Awaitable[str]]
"""Sends a clip, to be answered within so many seconds, and returns `"answered"` or why it was not."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What became of the clips that arrived at one rate.

    Attributes:
        multiple: Of the rate that holds.
        rate: Clips a second.
        sent: Clips.
        outcomes: How many were answered in time, and why the others were not.
        goodput_per_s: Answered in time, a second of those until the last clip arrived and the last answer did.
        p50_ms: Median latency of those.
        p99_ms: 99th percentile.
        lag_ms: 99th percentile of how late a clip was sent, which tells of a client that is too slow.
    """

    multiple: float
    rate: float
    sent: int
    outcomes: dict[str, int]
    goodput_per_s: float
    p50_ms: float
    p99_ms: float
    lag_ms: float


async def load(send: Send, rate: float, seconds: float, deadline_s: float, multiple: float = 1.0) -> Load:
    """Sends clips at random times, and waits until each is answered or late."""
    due = poisson_arrivals().times(rate, int(rate * seconds))
    start = time.perf_counter() + 0.1
    latencies: list[float] = []
    ended = start + float(due[-1])
    lags: list[float] = []
    outcomes: Counter[str] = Counter()

    async def one(moment: float) -> None:
        nonlocal ended
        await asyncio.sleep(moment - time.perf_counter())
        lags.append((time.perf_counter() - moment) * 1000)
        try:
            outcome = await asyncio.wait_for(send(deadline_s), moment + deadline_s - time.perf_counter())
        except (asyncio.TimeoutError, httpx.TimeoutException):
            outcome = "late"
        if outcome == "answered":
            ended = max(ended, time.perf_counter())
            latencies.append((time.perf_counter() - moment) * 1000)
        outcomes[outcome] += 1

    await asyncio.gather(*(one(start + moment) for moment in due))
    p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (float("nan"), float("nan"))
    return Load(
        multiple,
        round(rate, 2),
        len(due),
        dict(sorted(outcomes.items())),
        round(len(latencies) / (ended - start), 2),
        round(float(p50), 1),
        round(float(p99), 1),
        round(float(np.percentile(lags, 99)), 1),
    )


async def throughput(send: Send, seconds: float, clients: int = 16) -> float:
    """Clips a second of clients that send one clip after the other."""
    end = time.perf_counter() + seconds
    count = 0

    async def one() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await send(60.0)
            count += 1

    await asyncio.gather(*(one() for _ in range(clients)))
    return count / seconds


async def rate_that_holds(send: Send, seconds: float, deadline_s: float) -> float:
    """The highest rate of those tried at which 99 % of the clips are answered in time."""
    limit = await throughput(send, seconds)
    for share in SHARES:
        found = await load(send, limit * share, seconds, deadline_s)
        say(f"{share:.0%} of {limit:.1f} clips/s: {found.outcomes}")
        if found.outcomes.get("answered", 0) >= 0.99 * found.sent:
            break
    return limit * share


@contextlib.asynccontextmanager
async def over_http(url: str, body: bytes, *, with_deadline: bool) -> Any:
    """Sends clips to a gateway."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:

        async def send(seconds: float) -> str:
            wait = {"X-Deadline-Ms": str(seconds * 1000 * SHARE_SENT)} if with_deadline else {}
            try:
                answer = await client.post("/predict/frames", content=body, headers=HEADERS | wait, timeout=seconds)
            except httpx.TransportError as error:
                return "late" if isinstance(error, httpx.TimeoutException) else "broken connection"
            return "answered" if answer.status_code == 200 else str(answer.json()["error"]["code"])

        yield send


@contextlib.asynccontextmanager
async def over_grpc(url: str, clip: Any) -> Any:
    """Sends clips to Triton."""
    tensor = triton.InferInput(FRAMES, (1, *clip.shape), "UINT8")
    tensor.set_data_from_numpy(clip[np.newaxis])
    async with triton.InferenceServerClient(url) as client:

        async def send(seconds: float) -> str:
            try:
                await client.infer(ENSEMBLE_MODEL, [tensor], client_timeout=seconds)
            except InferenceServerException as error:
                return "late" if "DEADLINE" in str(error.status()) else "rejected"
            return "answered"

        yield send


@contextlib.contextmanager
def served(bundle: Bundle, folder: Path, options: ServingOptions) -> Iterator[str]:
    """Runs a Triton on the servers' core."""
    repository = write_repository(bundle, folder / "repository", options=options)
    http, grpc = free_ports(2)
    with TritonServer(
        repository, http_port=http, grpc_port=grpc, metrics_port=0, log_file=folder / "triton.log", threads=1
    ) as server:
        yield server.url


async def measure(send: Send, rates: list[tuple[float, float]], seconds: float, deadline_s: float) -> list[Load]:
    """Loads a server at each rate, and waits after each until it has worked off what is left."""
    rows = []
    for multiple, rate in rates:
        rows.append(await load(send, rate, seconds, deadline_s, multiple))
        say(f"{multiple:g}x: {rows[-1].goodput_per_s:.1f} of {rate:.1f} clips/s in time, {rows[-1].outcomes}")
        while await send(120.0) != "answered":
            await asyncio.sleep(1)
    return rows


async def run(folder: Path, seconds: float, deadline_s: float, *, with_triton: bool) -> dict[str, Any]:
    """Measures every server."""
    cores = sorted(os.sched_getaffinity(0))
    clients_core, servers_core = {cores[0]}, {cores[-1]}
    pinned = ("taskset", "-c", ",".join(map(str, servers_core)), sys.executable, "-m", "vdeploy")
    bundle = make_tiny_bundle(folder / "bundle", frames=FRAMES_OF_CLIP, size=SIZE, dim=DIM, work=WORK)
    clip = np.random.default_rng(0).integers(0, 256, (FRAMES_OF_CLIP, SIZE, SIZE, 3), np.uint8)
    packed = io.BytesIO()
    np.save(packed, clip)
    body, found = packed.getvalue(), {}

    async def of_gateway(name: str, *options: str, bounded: bool, rates: list[tuple[float, float]] | None) -> Any:
        say(name)
        with running_gateway(folder / "spool", *options, *(() if bounded else UNBOUNDED), command=pinned) as gateway:
            async with over_http(gateway.url, body, with_deadline=bounded) as send:
                await throughput(send, 2.0)
                holds = rates or rated(await rate_that_holds(send, seconds, deadline_s))
                found[name] = await measure(send, holds, seconds, deadline_s)
        return holds

    async def of_triton(name: str, options: ServingOptions, rates: list[tuple[float, float]] | None) -> Any:
        say(name)
        place = folder / name.replace(" ", "-")
        os.sched_setaffinity(0, servers_core)
        with served(bundle, place, options) as url:
            os.sched_setaffinity(0, clients_core)
            async with over_grpc(url, clip) as send:
                await throughput(send, 2.0)
                holds = rates or rated(await rate_that_holds(send, seconds, deadline_s))
                found[name] = await measure(send, holds, seconds, deadline_s)
        return holds

    os.sched_setaffinity(0, clients_core)
    in_process = ("--bundle", str(bundle.root))
    rates = await of_gateway("gateway, bounded", *in_process, bounded=True, rates=None)
    await of_gateway("gateway, unbounded", *in_process, bounded=False, rates=rates)
    if with_triton:
        rates = await of_triton("Triton, unbounded", ServingOptions(), None)
        budget = ServingOptions(max_queue=16, latency_budget_ms=deadline_s * 1000)
        await of_triton("Triton, bounded queues", budget, rates)
        os.sched_setaffinity(0, servers_core)
        with served(bundle, folder / "behind", ServingOptions()) as url:
            os.sched_setaffinity(0, clients_core)
            await of_gateway("bounded gateway before Triton", "--url", url, bounded=True, rates=rates)
    os.sched_setaffinity(0, cores)
    return {
        "deadline_ms": deadline_s * 1000,
        "seconds": seconds,
        "servers": [
            {
                "name": name,
                "goodput_at_2x": share_at_2x(rows),
                "loads": [dataclasses.asdict(row) for row in rows],
            }
            for name, rows in found.items()
        ],
    }


def rated(rate: float) -> list[tuple[float, float]]:
    """The multiples of a rate, each with its clips a second."""
    return [(multiple, multiple * rate) for multiple in MULTIPLES]


def share_at_2x(rows: list[Load]) -> float:
    """Goodput at twice the rate that holds, over the best goodput."""
    best = max(row.goodput_per_s for row in rows)
    (twice,) = (row.goodput_per_s for row in rows if row.multiple == 2)
    return round(twice / best, 3) if best else 0.0


def as_text(result: dict[str, Any]) -> str:
    """Format the result as text."""
    lines = []
    for server in result["servers"]:
        lines.append(
            f"{server['name']}: {server['goodput_at_2x']:.1%} of its best goodput at twice the rate that holds"
        )
        lines.append("  load  clips/s  in time/s  p50 ms  p99 ms  lag ms  outcomes")
        lines += [
            f"  {row['multiple']:3g}x  {row['rate']:7.1f}  {row['goodput_per_s']:9.1f}  {row['p50_ms']:6.0f}  "
            f"{row['p99_ms']:6.0f}  {row['lag_ms']:6.0f}  "
            f"{', '.join(f'{count} {name}' for name, count in row['outcomes'].items())}"
            for row in server["loads"]
        ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark that the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--deadline-ms", type=float, default=2000.0, help="how long a client waits for an answer")
    parser.add_argument("--without-triton", action="store_true", help="measure the gateway alone")
    add_output_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(
            run(Path(folder), options.seconds, options.deadline_ms / 1000, with_triton=not options.without_triton)
        )
    report_result(options, result, as_text(result))


if __name__ == "__main__":
    main()
