"""Throughput of several Tritons on one machine behind nginx, relative to one Triton, on real servers.

    python -m benchmarks.instances [BUNDLE ...] [--instances 1 2 4] [--clients 8] [--seconds 10]

Without a bundle, a tiny one is made; run the command from the root of the repository. The cores are divided among the
instances. Clients are separate processes on the same machine, each waits for its answer, and every answer is compared
with the one computed in process. nginx is the one on PATH, or Debian's.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.output import add_output_options, report_result
from testing.debian import Unavailable
from testing.nginx import find_nginx, nginx_before
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import UserError
from vdeploy.core.progress import say
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer
from vdeploy.video.clips import ClipSpec

CLIPS = 4
WARMUP_SECONDS = 1.0
TOLERANCE = 1e-4

Frames = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Row:
    """One arrangement of servers under load.

    Attributes:
        bundle: Name of the bundle's folder.
        instances: Tritons.
        behind: What the clients connect to.
        requests: Those answered between the end of the warm-up and the end of the measurement.
        wrong: Answers that differ from those computed in process.
        clips_per_s: Throughput of all clients together.
        p50_ms: Half of the requests were faster.
        p99_ms: 99 % were.
    """

    bundle: str
    instances: int
    behind: str
    requests: int
    wrong: int
    clips_per_s: float
    p50_ms: float
    p99_ms: float


def clips_of(spec: ClipSpec) -> Frames:
    """Different clips of noise."""
    return np.random.default_rng(0).integers(0, 256, (CLIPS, spec.frames, spec.size, spec.size, 3), dtype=np.uint8)


def measure(url: str, clips: Frames, expected: Probabilities, clients: int, seconds: float) -> tuple[list[float], int]:
    """Has client processes send one clip after the other.

    Returns:
        Milliseconds of each request that was answered after the warm-up, and how many answers were wrong.
    """
    context = multiprocessing.get_context("spawn")
    processes, ends = [], []
    for number in range(clients):
        ours, theirs = context.Pipe()
        process = context.Process(target=_send, args=(theirs, url, clips, expected, number, seconds), daemon=True)
        process.start()
        theirs.close()
        processes.append(process)
        ends.append(ours)
    for end in ends:
        end.recv()
    for end in ends:
        end.send("go")
    results = [end.recv() for end in ends]
    for process in processes:
        process.join()
    return [value for times, _ in results for value in times], sum(wrong for _, wrong in results)


def _send(end: Connection, url: str, clips: Frames, expected: Probabilities, number: int, seconds: float) -> None:
    times: list[float] = []
    wrong = 0
    with TritonScorer(url) as scorer:
        end.send("ready")
        end.recv()
        begin = time.monotonic() + WARMUP_SECONDS
        while True:
            index = number % len(clips)
            started = time.monotonic()
            answer = scorer.score(clips[index : index + 1])
            ended = time.monotonic()
            if ended > begin + seconds:
                break
            if ended >= begin:
                times.append(1000 * (ended - started))
                wrong += bool(np.abs(answer[0] - expected[index]).max() > TOLERANCE)
            number += 1
    end.send((times, wrong))


@contextlib.contextmanager
def tritons(repository: Repository, count: int, folder: Path) -> Iterator[list[str]]:
    """Runs Tritons on one repository, sharing out the cores; yields their addresses."""
    with contextlib.ExitStack() as stack:
        urls = []
        for number in range(count):
            http, grpc = free_ports(2)
            server = TritonServer(
                repository,
                http_port=http,
                grpc_port=grpc,
                metrics_port=0,
                log_file=folder / f"triton-{number}.log",
                threads=max(1, available_cores() // count),
            )
            urls.append(stack.enter_context(server).url)
        yield urls


def run(bundle: Bundle, name: str, counts: Sequence[int], clients: int, seconds: float) -> Iterator[Row]:
    """Measures one instance without nginx, then each number of instances behind it."""
    program = find_nginx()
    scorer = LocalScorer(bundle)
    clips = clips_of(scorer.spec)
    expected = scorer.score(clips)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        repository = write_repository(bundle, folder / "repository")
        for count, fronted in ((1, False), *((count, True) for count in counts)):
            with tritons(repository, count, folder) as urls, contextlib.ExitStack() as stack:
                place = Path(tempfile.mkdtemp(dir=folder))
                url = stack.enter_context(nginx_before(urls, program, place)) if fronted else urls[0]
                times, wrong = measure(url, clips, expected, clients, seconds)
            if not times:
                raise UserError(f"no request was answered within {seconds:g} s", "give more --seconds")
            p50, p99 = np.percentile(times, [50, 99])
            yield Row(
                name,
                count,
                "nginx" if fronted else "itself",
                len(times),
                wrong,
                round(len(times) / seconds, 2),
                round(float(p50), 1),
                round(float(p99), 1),
            )


def main() -> None:
    """Prints a table, and fails if an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE")
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    add_output_options(parser)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for path in options.bundles or [None]:
            bundle = Bundle(path) if path else make_tiny_bundle(Path(work))
            for row in run(bundle, path.name if path else "tiny", options.instances, options.clients, options.seconds):
                say(f"{row.bundle}, {row.instances} behind {row.behind}: {row.clips_per_s:g} clips/s")
                rows.append(row)
    result = {
        "clients": options.clients,
        "seconds": options.seconds,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    report_result(options, result, as_text(rows))
    if wrong := sum(row.wrong for row in rows):
        sys.exit(f"error: {wrong} answers were wrong")


def as_text(rows: Sequence[Row]) -> str:
    """The rows as a table; the first of a bundle is the one that the others are compared with."""
    lines = ["bundle  Tritons  behind  clips/s  of one  p50 ms  p99 ms  of one  requests  wrong"]
    first: dict[str, Row] = {}
    for row in rows:
        one = first.setdefault(row.bundle, row)
        lines.append(
            f"{row.bundle:7} {row.instances:7}  {row.behind:6} {row.clips_per_s:8g} "
            f"{row.clips_per_s / one.clips_per_s:6.2f}x {row.p50_ms:7g} {row.p99_ms:7g} "
            f"{row.p99_ms / one.p99_ms:6.2f}x {row.requests:9} {row.wrong:6}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except (Unavailable, UserError) as error:
        sys.exit(f"error: {error}")
