"""Servers that a load needs, for each format with a measured speed."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Collection, Sequence
from typing import Any

from vdeploy.artifacts.bundle import Bundle, Manifest
from vdeploy.benchmark.capacity.figures import Figure, known_figures
from vdeploy.benchmark.capacity.queueing import highest_load, p99_latency, simulated_p99
from vdeploy.benchmark.record import Benchmark
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.progress import say
from vdeploy.inference.format_speeds import load_speeds
from vdeploy.timeline.windows import ASSUMED_WINDOW_S, WindowPlan
from vdeploy.triton.planning.tuned_serving import load_tuned

__all__ = ["Need", "camera_load", "plan_capacity", "servers_for"]


@dataclasses.dataclass(frozen=True)
class Need:
    """Servers for a load.

    Attributes:
        run: Name of the run that the bundle was exported from.
        figure: The speed that it follows from.
        servers: How many; 0 where no number holds the objective.
        per_server: Clips a second of one server that hold the objective.
        least: Servers by the upper end of the interval of that rate.
        most: Servers by its lower end.
        busy: Share of the time in which a server computes; `None` where that is not known.
        p99_ms: 99th percentile of the latencies by formula; by measurement where `figure` is of a rate.
        simulated_ms: The same by simulation; `None` where there is nothing to simulate.
    """

    run: str
    figure: Figure
    servers: int
    per_server: float
    least: int
    most: int
    busy: float | None = None
    p99_ms: float | None = None
    simulated_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)


def camera_load(manifest: Manifest, cameras: int, window_s: float | None, stride_s: float | None, fps: float) -> float:
    """Clips a second that cameras ask for.

    A backbone that looks at single frames computes the frames that windows share once, as `vdeploy watch` and the
    gateway do, so that a window counts for its new frames.

    Args:
        manifest: Of the bundle.
        cameras: How many.
        window_s: Seconds of a window; `None` for the length of the training clips.
        stride_s: Seconds from window to window; `None` for half a window.
        fps: Frames a second of a camera; where they are fewer than a window samples, no more are computed.

    Raises:
        TimelineError: Window or stride are no lengths.
    """
    frames = manifest.clip_spec.frames
    windows = WindowPlan.of(frames, window_s or manifest.clip_seconds or ASSUMED_WINDOW_S, stride_s)
    if manifest.extractor.granularity == "clip":
        return cameras / windows.stride_s
    new_frames = min(windows.stride, frames) / windows.stride_s
    return cameras * min(fps, new_frames) / frames


def plan_capacity(
    bundle: Bundle,
    clips_per_s: float,
    slo_ms: float,
    benchmarks: Sequence[Benchmark],
    formats: Collection[str] | None,
    *,
    of_cameras: bool = False,
) -> list[Need]:
    """How many servers a load needs, for each format of a bundle whose speed is known, the fewest first.

    Args:
        bundle: The bundle.
        clips_per_s: The load.
        slo_ms: Limit of the 99th percentile of the latencies.
        benchmarks: Records of `vdeploy benchmark`, beside what it and `vdeploy tune-serving` have kept here.
        formats: Formats that count; `None` for all.
        of_cameras: Whether frames of cameras are sent. Whole clips are sent otherwise, and a rate and an objective
            that were measured with frames do not count.

    Raises:
        BenchmarkError: No speed is known.
    """
    tuned = load_tuned(bundle)
    if tuned and tuned.load != "clips" and not of_cameras:
        say(
            f"plan: what tune-serving has found for {bundle.root} was measured with {tuned.load}, "
            "and counts for cameras"
        )
        tuned = None
    elif tuned and tuned.load == "streams" and bundle.manifest.extractor.granularity == "clip":
        say(
            f"plan: what tune-serving has found for {bundle.root} was measured with streams, whose windows share "
            "frames, and does not count: plan counts the windows of such a model as whole clips"
        )
        tuned = None
    figures = known_figures(bundle, tuned, load_speeds(bundle), benchmarks)
    chosen = [figure for figure in figures if formats is None or figure.format in formats]
    needs = [servers_for(bundle.manifest.run, figure, clips_per_s, slo_ms / 1000) for figure in chosen]
    found = [need for need in needs if need is not None]
    if not found:
        which = f" in {', '.join(sorted(formats))}" if formats else ""
        name = shlex.quote(str(bundle.root))
        raise BenchmarkError(
            f"the speed of {bundle.root}{which} is not known",
            f"measure it: vdeploy benchmark {name} --what pipeline --out FILE, and give --measured FILE",
        )
    return sorted(found, key=lambda need: (need.servers or math.inf, need.figure.format))


def servers_for(run: str, figure: Figure, clips_per_s: float, slo_s: float) -> Need | None:
    """How many servers a load needs, of the kind that was measured.

    Each server has its share of the requests and a queue of its own; requests arrive independently of each other.

    Args:
        run: Name of the run.
        figure: The measured speed.
        clips_per_s: The load.
        slo_s: Limit of the 99th percentile of the latencies, in seconds.

    Returns:
        What is needed; `None` where the figure was measured for a looser objective.
    """
    if figure.held is not None:
        if figure.slo_s is None or figure.slo_s > slo_s:
            return None
        rate, low, high = figure.held
        return Need(
            run,
            figure,
            _count(clips_per_s, rate),
            rate,
            least=_count(clips_per_s, high),
            most=_count(clips_per_s, low),
            p99_ms=1000 * figure.slo_s,
        )
    service = figure.clip_s or math.inf
    rate = highest_load(service, slo_s, variation=figure.variation)
    servers = _count(clips_per_s, rate)
    if not servers:
        return Need(run, figure, 0, 0.0, 0, 0)
    share = clips_per_s / servers
    return Need(
        run,
        figure,
        servers,
        rate,
        servers,
        servers,
        busy=share * service,
        p99_ms=1000 * p99_latency(share, service, variation=figure.variation),
        simulated_ms=1000 * simulated_p99(share, service, variation=figure.variation),
    )


def _count(clips_per_s: float, rate: float) -> int:
    return math.ceil(clips_per_s / rate - 1e-9) if rate else 0
