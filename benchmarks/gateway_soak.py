"""Measure good clients of a gateway, first alone and then beside attackers, and record its resources.

    python -m benchmarks.attacks --soak 10

The attackers have their own key and run in a process of lower priority. They flood health, begin and delete
streams, send endless headers and JSON, hold connections, ask for tiny windows, and send damaged videos.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from testing.running_gateway import Running, running_gateway
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.core.progress import say
from vdeploy.gateway.keys import KeyFile
from vdeploy.synthetic import synthesize

__all__ = ["as_text", "soak"]

FRAMES, SIZE = 16, 64
GOOD_CLIENTS = 2
PAUSE_S = 0.05
"""Pause between two requests of a good client."""

TICKS = 10


def soak(seconds: float) -> dict[str, Any]:
    """Measure good clients alone for a quarter of the time, and beside attackers for the rest.

    Args:
        seconds: Duration of both phases.

    Returns:
        JSON-ready: latency and statuses of both phases, and resources of the gateway over time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthesize(folder / "clips", clips=2, size=(96, 72), fps=10.0)
        video = next((folder / "clips").rglob("*.mp4")).read_bytes()
        bundle = make_tiny_bundle(folder / "bundle", frames=FRAMES, size=SIZE).root
        keys = KeyFile(folder / "keys.json")
        good, bad = keys.add("good"), keys.add("bad")
        options = ("--bundle", str(bundle), "--api-keys", str(keys.path))
        with running_gateway(folder / "spool", *options) as gateway:
            _good_clients(gateway, good, video, 2.0)
            alone = _good_clients(gateway, good, video, seconds / 4)
            say(f"alone: {alone}")
            context = multiprocessing.get_context("spawn")
            counts = context.Queue()
            attacker = context.Process(target=_attack, args=(gateway.url, bad, video, seconds * 3 / 4, counts))
            attacker.start()
            held: list[dict[str, Any]] = []
            watcher = threading.Thread(target=_watch, args=(gateway, seconds * 3 / 4, held))
            watcher.start()
            beside = _good_clients(gateway, good, video, seconds * 3 / 4)
            watcher.join()
            attacks = counts.get(timeout=120)
            attacker.join(60)
            time.sleep(3)
            held.append(_holds(gateway, seconds))
            errors = len(gateway.records("unexpected_error"))
    ratio = round(beside["p99_ms"] / alone["p99_ms"], 2)
    return {
        "seconds": seconds,
        "alone": alone,
        "beside_attackers": beside,
        "p99_ratio": ratio,
        "attacks": attacks,
        "held": held,
        "unexpected_errors": errors,
    }


def as_text(result: dict[str, Any]) -> str:
    """Format the result as text."""
    lines = ["good clients      requests  p50 ms  p99 ms  statuses"]
    for name in ("alone", "beside_attackers"):
        one = result[name]
        lines.append(f"{name:16} {one['requests']:9}  {one['p50_ms']:6.1f}  {one['p99_ms']:6.1f}  {one['statuses']}")
    lines += [f"p99 beside attackers / alone: {result['p99_ratio']}", "", "attack                 attempts  answers"]
    lines += [
        f"{name:22} {sum(answers.values()):8}  {dict(sorted(answers.items()))}"
        for name, answers in result["attacks"].items()
    ]
    lines += ["", "second  memory MiB  descriptors  processes  files"]
    lines += [
        f"{one['second']:6.0f}  {one['memory_mib']:10.1f}  {one['descriptors']:11}  "
        f"{one['processes']:9}  {one['files']:5}"
        for one in result["held"]
    ]
    return "\n".join([*lines, f"unexpected errors: {result['unexpected_errors']}"])


def _good_clients(gateway: Running, key: str, video: bytes, seconds: float) -> dict[str, Any]:
    end = time.perf_counter() + seconds
    times: list[float] = []
    statuses: Counter[str] = Counter()
    body = _array()

    def work() -> None:
        with gateway.client(headers={"Authorization": f"Bearer {key}"}) as client:
            number = 0
            while time.perf_counter() < end:
                number += 1
                started = time.perf_counter()
                if number % 4:
                    answer = client.post(
                        "/predict/frames", content=body, headers={"Content-Type": "application/octet-stream"}
                    )
                else:
                    answer = client.post("/predict", files={"video": video})
                times.append((time.perf_counter() - started) * 1000)
                statuses[str(answer.status_code)] += 1
                time.sleep(PAUSE_S)

    _in_threads([work] * GOOD_CLIENTS)
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "requests": len(times),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "statuses": dict(sorted(statuses.items())),
    }


def _watch(gateway: Running, seconds: float, held: list[dict[str, Any]]) -> None:
    for tick in range(TICKS + 1):
        held.append(_holds(gateway, tick * seconds / TICKS))
        if tick < TICKS:
            time.sleep(seconds / TICKS)


def _holds(gateway: Running, second: float) -> dict[str, Any]:
    process = Path(f"/proc/{gateway.process.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return {
        "second": second,
        "memory_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1),
        "descriptors": len(list((process / "fd").iterdir())),
        "processes": len(gateway.children()),
        "files": len(gateway.files()),
    }


def _attack(url: str, key: str, video: bytes, seconds: float, counts: Any) -> None:
    """Run all attacks at once, one thread each, in a process of low priority."""
    os.nice(10)
    end = time.monotonic() + seconds
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
    long_video = video * 3  # half of it is cut off, so that it begins with garbage
    json_type = {"Content-Type": "application/json"}

    def begin_and_delete() -> int:
        answer = client.post("/streams", files={"video": video}, params={"window_s": 600})
        if answer.status_code == 201:
            client.delete(f"/streams/{answer.json()['id']}")
        return answer.status_code

    tiny = {"timeline": True, "window_s": 0.2, "stride_s": 0.04}
    attacks: dict[str, Callable[[], object]] = {
        "flood health": lambda: client.get("/readyz").status_code,
        "begin and delete": begin_and_delete,
        "tiny windows": lambda: client.post("/predict", files={"video": video}, params=tiny).status_code,
        "damaged videos": lambda: client.post("/predict", files={"video": long_video[len(video) // 2 :]}).status_code,
        "endless JSON": lambda: client.post("/streams/live", content=b"[" * 100_000, headers=json_type).status_code,
        "endless headers": lambda: _raw(url, b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * 40_000),
        "unfinished headers": lambda: _raw(url, b"GET / HTTP/1.1\r\n"),
        "foreign host": lambda: client.get("/model", headers={"Origin": "https://attacker.invalid"}).status_code,
    }
    answers: dict[str, Counter[str]] = {name: Counter() for name in attacks}

    def repeat(name: str, attempt: Callable[[], object]) -> None:
        while time.monotonic() < end:
            try:
                answers[name][str(attempt())] += 1
            except (httpx.HTTPError, OSError) as error:
                answers[name][type(error).__name__] += 1

    _in_threads([lambda name=name, attempt=attempt: repeat(name, attempt) for name, attempt in attacks.items()])
    client.close()
    counts.put({name: dict(counter) for name, counter in answers.items()})


def _raw(url: str, content: bytes) -> str:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(content)
        answer = connection.recv(64)
    return answer.split(b" ")[1].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"


def _in_threads(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.default_rng(0).integers(0, 256, (FRAMES, SIZE, SIZE, 3), np.uint8))
    return out.getvalue()
