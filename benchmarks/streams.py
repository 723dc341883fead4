"""Cost of windows of streams that the server keeps, relative to windows that the client keeps.

    python -m benchmarks.streams BUNDLE [--streams 1,4] [--frames 24] [--format F]

Starts a Triton on the bundle. Frames of several streams are sent as cameras do, one of each stream at a time, in turns:
to the server that keeps the windows, and to the stages by a client that keeps them. A window is scored with each frame.
Prints milliseconds per frame of both, their ratio, the share of keeper and classifier in the server's computing time,
the frames per execution of the extractor, and the largest difference of a score. Fails if scores differ by more than
1e-5.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from benchmarks.output import add_output_options, report_result
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import UserError
from vdeploy.live.server_windows import ServerWindows
from vdeploy.timeline.sliding import Sample, SlidingDetector
from vdeploy.timeline.windows import WindowPlan
from vdeploy.triton.client.stream_client import StreamClient
from vdeploy.triton.names import CLASSIFIER_MODEL, EXTRACTOR_MODEL, WINDOW_MODEL
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer

TOLERANCE = 1e-5
ROUND = 4
"""Frames of each stream per turn."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Measurement of a number of streams.

    Attributes:
        streams: How many.
        frames: Frames of each.
        server_ms: Milliseconds per frame where the server keeps the windows; the median of the rounds.
        client_ms: The same where the client does.
        light_share: Part of the server's computing for kept streams that the keeper and the classifier take.
        frames_per_execution: Frames that the extractor took at a time for kept streams.
        difference: Largest difference between two scores of a window.
    """

    streams: int
    frames: int
    server_ms: float
    client_ms: float
    light_share: float
    frames_per_execution: float
    difference: float

    def __str__(self) -> str:
        return (
            f"{self.streams} streams, {self.frames} frames each: server keeps {self.server_ms:.1f} ms per frame, "
            f"client keeps {self.client_ms:.1f} ms, ratio {self.server_ms / self.client_ms:.2f}; keeper and classifier "
            f"{self.light_share:.1%} of the computing, {self.frames_per_execution:.1f} frames per execution, "
            f"scores within {self.difference:.1e}"
        )


@dataclasses.dataclass(frozen=True)
class _Counts:
    executions: int
    nanoseconds: dict[str, int]

    @classmethod
    def of(cls, admin: triton.InferenceServerClient) -> _Counts:
        found = {
            model: admin.get_inference_statistics(model).model_stats[0]
            for model in (EXTRACTOR_MODEL, WINDOW_MODEL, CLASSIFIER_MODEL)
        }
        computed = {model: int(entry.inference_stats.compute_infer.ns) for model, entry in found.items()}
        return cls(int(found[EXTRACTOR_MODEL].execution_count), computed)


def compare(client: StreamClient, streams: int, frames: int, pictures: npt.NDArray[np.uint8]) -> Row:
    """Runs streams with windows on the server and in the client, in turns."""
    plan = WindowPlan(client.spec.frames, 2.0, 1)
    keepers: tuple[ServerWindows[int] | SlidingDetector[int], ...] = (
        ServerWindows(client, plan),
        SlidingDetector(client, plan),
    )
    took: tuple[list[float], list[float]] = ([], [])
    scores: tuple[dict[tuple[int, float], float], dict[tuple[int, float], float]] = ({}, {})
    executions, nanoseconds = 0, dict.fromkeys((EXTRACTOR_MODEL, WINDOW_MODEL, CLASSIFIER_MODEL), 0)
    with triton.InferenceServerClient(client.address) as admin:
        for begin in range(0, frames, ROUND):
            indices = range(begin, min(begin + ROUND, frames))
            for keeper, seconds, scored in zip(keepers, took, scores, strict=True):
                before, started = _Counts.of(admin), time.monotonic()
                for index in indices:
                    samples = [
                        Sample(stream, index, pictures[(index + stream) % len(pictures)]) for stream in range(streams)
                    ]
                    for one in keeper.feed(samples):
                        scored[one.stream, one.window.start_s] = one.window.probability
                seconds.append((time.monotonic() - started) / len(indices) / streams)
                if keeper is keepers[0]:
                    after = _Counts.of(admin)
                    executions += after.executions - before.executions
                    for model in nanoseconds:
                        nanoseconds[model] += after.nanoseconds[model] - before.nanoseconds[model]
    for keeper in keepers:
        for stream in range(streams):
            keeper.finish(stream)
    if scores[0].keys() != scores[1].keys():
        raise UserError("server and client have scored different windows")
    return Row(
        streams=streams,
        frames=frames,
        server_ms=1000 * float(np.median(took[0])),
        client_ms=1000 * float(np.median(took[1])),
        light_share=1 - nanoseconds[EXTRACTOR_MODEL] / sum(nanoseconds.values()),
        frames_per_execution=streams * frames / executions,
        difference=max(abs(score - scores[1][key]) for key, score in scores[0].items()),
    )


def main() -> int:
    """Runs the comparison; 0 where the scores agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--streams", default="1,4", help="numbers of streams")
    parser.add_argument("--frames", type=int, default=24, help="frames of each stream")
    parser.add_argument("--format", default="onnx-fp32", help="format of the extractor")
    add_output_options(parser)
    options = parser.parse_args()
    numbers = [int(number) for number in options.streams.split(",")]
    rows = []
    http, grpc = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="vdeploy-streams-") as folder:
        repository = write_repository(
            Bundle(options.bundle),
            Path(folder) / "repository",
            extractor=options.format,
            options=ServingOptions(streams=StreamOptions(max(numbers))),
        )
        log = Path(folder) / "log"
        with (
            TritonServer(repository, http_port=http, grpc_port=grpc, metrics_port=0, log_file=log) as server,
            StreamClient(server.url) as client,
        ):
            size = client.spec.size
            pictures = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), dtype=np.uint8)
            for number in numbers:
                row = compare(client, number, max(options.frames, 2 * client.spec.frames), pictures)
                rows.append(row)
    result = {"format": options.format, "frame_px": size, "rows": [dataclasses.asdict(row) for row in rows]}
    report_result(options, result, "\n".join(map(str, rows)))
    return 0 if all(row.difference <= TOLERANCE for row in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
