"""The benchmark of a bundle, from its folder to the record."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from vdeploy import __version__
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.accuracy import HeldOutVideos
from vdeploy.benchmark.measure.candidates import find_ways, missing_peers, rejected_rows
from vdeploy.benchmark.measure.machine import describe_machine
from vdeploy.benchmark.measure.peak_flops import measure_peaks
from vdeploy.benchmark.measure.side_by_side import Heats
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import Benchmark, Environment, Peak, Row
from vdeploy.benchmark.served.rows import ServedRows
from vdeploy.core.progress import say
from vdeploy.core.timestamps import now
from vdeploy.inference.runtimes.base import available_cores

__all__ = ["benchmark_bundle"]

_PEAK_SECONDS = 1.0


def benchmark_bundle(root: Path, plan: Plan | None = None) -> Benchmark:
    """Measures a bundle.

    Rows of the same stage and batch run side by side, in turns, each in a process of its own.

    Args:
        root: Folder of the bundle.
        plan: What to measure; left out, every stage and format for a few seconds.

    Raises:
        BundleError: It is no bundle, or does not hold a format.
        ClientError: The server does not answer, or serves something else.
        DatasetError: The data hold no clips that can be used.
        ServerError: No Triton can be had to start, or ``perf_analyzer`` cannot be run.
    """
    plan = plan or Plan()
    bundle = Bundle(root)
    threads = plan.threads or available_cores()
    ways = find_ways(bundle, plan.formats, peers=plan.peers)
    rows = rejected_rows(bundle, threads) + missing_peers(bundle, plan.peers, threads)
    served = ServedRows(bundle, plan, ways, threads)
    held_out = None
    if plan.data is not None:
        held_out = HeldOutVideos(plan.data, plan.positive, bundle.manifest.threshold, plan.clips)
    environment = describe_machine(threads)
    say("benchmark: the machine's peak")
    peaks = measure_peaks(threads, min(plan.seconds, _PEAK_SECONDS))
    with Heats(bundle, plan, ways, threads, peaks, held_out) as heats:
        rows = [row for what in plan.whats for row in heats.run(what)] + list(served.run(heats)) + rows
    return _record(bundle, environment, peaks, rows)


def _record(bundle: Bundle, environment: Environment, peaks: tuple[Peak, ...], rows: list[Row]) -> Benchmark:
    manifest = bundle.manifest
    return Benchmark(
        created=now(),
        command=shlex.join(["vdeploy", *sys.argv[1:]]),
        vdeploy_version=__version__,
        bundle=str(bundle.root),
        run=manifest.run,
        sha256={
            "classifier": manifest.classifier_sha256,
            "weights": manifest.extractor.weights_sha256,
            **{f"{artifact.stage}/{artifact.format}": artifact.sha256 for artifact in manifest.artifacts},
        },
        clip_frames=manifest.clip_spec.frames,
        clip_size=manifest.clip_spec.size,
        layer=manifest.extractor.layer,
        environment=environment,
        peaks=peaks,
        rows=tuple(rows),
    )
