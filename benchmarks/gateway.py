"""Measure throughput and latency of a gateway on this machine, and look for leaks under mixed load.

    python -m benchmarks.gateway                         # closed loop: N clients, each with one request at a time
    python -m benchmarks.gateway --rate 100              # open loop: requests at fixed times, whatever the answers do
    python -m benchmarks.gateway --soak 10               # minutes of mixed requests; memory, files, processes

Clients send the decoded frames of one clip (`POST /predict/frames`). The model is small, so that the gateway dominates
the measurement. Clients and gateway share the machine. In an open loop the latency of a request counts from its due
time, so that a slow answer before it is not hidden.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import io
import itertools
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import add_output_options, report_result
from testing.running_gateway import Running, running_gateway
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.core.progress import say
from vdeploy.synthetic import synthesize

CLIENTS = (1, 2, 4, 8, 16)
HEADERS = {"Content-Type": "application/octet-stream"}


def main() -> None:
    """Run the benchmark that the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip")
    parser.add_argument("--size", type=int, default=224, help="height and width of a frame in pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="closed loop: clients at a time")
    parser.add_argument("--rate", type=float, help="open loop: requests a second")
    parser.add_argument("--soak", type=float, help="minutes of mixed requests")
    add_output_options(parser)
    options = parser.parse_args()
    body = _array(options.frames, options.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_tiny_bundle(folder / "bundle", frames=options.frames, size=options.size).root
        with running_gateway(folder / "spool", "--bundle", str(bundle), "--max-requests", "64") as gateway:
            _Client(gateway).send(body)
            if options.soak:
                result = {"soak": soak(gateway, body, folder, options.soak * 60)}
            elif options.rate:
                result = {"open_loop": open_loop(gateway, body, options.rate, options.seconds)}
            else:
                result = {"closed_loop": closed_loop(gateway, body, options.clients, options.seconds)}
    asked = {"frames": options.frames, "size": options.size, "bytes": len(body)}
    report_result(options, {**asked, **result}, as_text(result))


def as_text(result: dict[str, Any]) -> str:
    """Format the result as text."""
    if soaked := result.get("soak"):
        lines = ["minute  requests  memory MiB  descriptors  processes  files"]
        lines += [
            f"{held['minute']:6.1f}  {held['requests']:8}  {held['memory_mib']:10.1f}  {held['descriptors']:11}  "
            f"{held['processes']:9}  {held['files']:5}"
            for held in soaked["held"]
        ]
        return "\n".join([*lines, f"statuses {soaked['statuses']}, files left {soaked['files_left']}"])
    lines = ["load             requests/s  p50 ms  p99 ms  max ms  gateway CPU  statuses"]
    loads = [(f"{load['clients']} clients", load) for load in result.get("closed_loop", ())]
    loads += [(f"{load['rate']:g} requests/s", load) for load in [result.get("open_loop")] if load]
    lines += [
        f"{name:16} {load['requests_per_s']:10.1f}  {load['p50_ms']:6.1f}  {load['p99_ms']:6.1f}  "
        f"{load['max_ms']:6.1f}  {load['gateway_cpu']:11.0%}  {load['statuses']}"
        for name, load in loads
    ]
    return "\n".join(lines)


def closed_loop(gateway: Running, body: bytes, counts: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Each client sends its next request after the answer to the last one."""
    rows = []
    for count in counts:
        say(f"{count} clients")
        loads = [_Load(gateway, body) for _ in range(count)]
        end = time.perf_counter() + seconds
        spent = _cpu_seconds(gateway)
        took = _in_threads([functools.partial(load.until, end) for load in loads])
        rows.append({"clients": count, **_seen(loads, took, (_cpu_seconds(gateway) - spent) / took)})
    return rows


def open_loop(gateway: Running, body: bytes, rate: float, seconds: float) -> dict[str, Any]:
    """Requests are due at fixed times; the next free client of a pool sends each."""
    loads = [_Load(gateway, body) for _ in range(16)]
    start = time.perf_counter() + 0.2
    due = iter([start + number / rate for number in range(int(rate * seconds))])
    lock = threading.Lock()

    def next_due() -> Iterator[float]:
        while True:
            with lock:
                moment = next(due, None)
            if moment is None:
                return
            yield moment

    spent = _cpu_seconds(gateway)
    took = _in_threads([functools.partial(load.at, next_due()) for load in loads])
    return {"rate": rate, "seconds": seconds, **_seen(loads, took, (_cpu_seconds(gateway) - spent) / took)}


def soak(gateway: Running, body: bytes, folder: Path, seconds: float) -> dict[str, Any]:
    """Send frames, videos, timelines, streams and damaged videos in turn, and record resources of the gateway."""
    synthesize(folder / "clips", clips=4, size=(96, 72), fps=10.0)
    videos = [path.read_bytes() for path in sorted((folder / "clips").rglob("*.mp4"))]
    end = time.perf_counter() + seconds
    statuses: Counter[int] = Counter()
    clients = 2
    workers = [threading.Thread(target=_mix, args=(gateway, body, videos, end, statuses)) for _ in range(clients)]
    for worker in workers:
        worker.start()
    held = []
    for tick in itertools.count():
        process = Path(f"/proc/{gateway.process.pid}")
        memory = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        held.append(
            {
                "minute": round(tick * seconds / 600, 1),
                "requests": sum(statuses.values()),
                "memory_mib": round(memory, 1),
                "descriptors": len(list((process / "fd").iterdir())),
                "processes": len(gateway.children()),
                "files": len(gateway.files()),
            }
        )
        say(f"minute {held[-1]['minute']}: {held[-1]['requests']} requests, {held[-1]['memory_mib']} MiB")
        if tick == 10:
            break
        time.sleep(seconds / 10)
    for worker in workers:
        worker.join()
    return {
        "minutes": seconds / 60,
        "clients": clients,
        "held": held,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "files_left": len(gateway.files()),
    }


def _mix(gateway: Running, body: bytes, videos: list[bytes], end: float, statuses: Counter[int]) -> None:
    with gateway.client() as client:
        for number in itertools.count():
            if time.perf_counter() > end:
                return
            video = videos[number % len(videos)]
            match number % 5:
                case 0:
                    answer = client.post("/predict/frames", content=body, headers=HEADERS)
                case 1:
                    answer = client.post("/predict", files={"video": video})
                case 2:
                    answer = client.post("/predict", files={"video": video}, params={"timeline": True})
                case 3:
                    answer = client.post("/predict", files={"video": video[: len(video) // 2]})
                case _:
                    begun = client.post("/streams", files={"video": video})
                    answer = client.get(begun.json()["events_url"])
                    client.delete(f"/streams/{begun.json()['id']}")
            statuses[answer.status_code] += 1


class _Client:
    """A persistent connection."""

    def __init__(self, gateway: Running) -> None:
        host, port = gateway.url.removeprefix("http://").split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def send(self, body: bytes) -> int:
        self._connection.request("POST", "/predict/frames", body, HEADERS)
        answer = self._connection.getresponse()
        json.loads(answer.read())
        return answer.status


class _Load:
    """Latencies and statuses of one client."""

    def __init__(self, gateway: Running, body: bytes) -> None:
        self._client, self._body = _Client(gateway), body
        self.milliseconds: list[float] = []
        self.statuses: Counter[int] = Counter()

    def until(self, end: float) -> None:
        while (start := time.perf_counter()) < end:
            self._send(start)

    def at(self, moments: Iterator[float]) -> None:
        for moment in moments:
            time.sleep(max(0.0, moment - time.perf_counter()))
            self._send(moment)

    def _send(self, since: float) -> None:
        self.statuses[self._client.send(self._body)] += 1
        self.milliseconds.append((time.perf_counter() - since) * 1000)


def _in_threads(calls: list[Callable[[], None]]) -> float:
    threads = [threading.Thread(target=call) for call in calls]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def _seen(loads: list[_Load], took: float, cpu: float) -> dict[str, Any]:
    times = np.concatenate([load.milliseconds for load in loads])
    statuses: Counter[int] = sum((load.statuses for load in loads), Counter())
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "requests_per_s": round(len(times) / took, 1),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(float(times.max()), 1),
        "gateway_cpu": round(cpu, 3),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
    }


def _cpu_seconds(gateway: Running) -> float:
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _array(frames: int, size: int) -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.default_rng(0).integers(0, 256, (frames, size, size, 3), np.uint8))
    return out.getvalue()


if __name__ == "__main__":
    main()
