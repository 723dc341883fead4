"""Benchmark of a bundle, from its folder to the record."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from vdeploy import __version__
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.accuracy import HeldOutVideos
from vdeploy.benchmark.measure.candidates import find_candidates
from vdeploy.benchmark.measure.machine import describe_machine
from vdeploy.benchmark.measure.peak_flops import measure_peaks
from vdeploy.benchmark.measure.side_by_side import SideBySide
from vdeploy.benchmark.measure.unmeasured import missing_peers, rejected_formats
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

    Rows of the same workload and batch run side by side: in turns, each in a separate process.

    Args:
        root: Folder of the bundle.
        plan: What to measure; left out, every workload and format for a few seconds each.

    Returns:
        The benchmark, with a row for everything that was measured and for what was not, with the reason.

    Raises:
        BenchmarkError: ``perf_analyzer`` cannot be run.
        BundleError: The folder is no bundle, or does not hold a format.
        ClientError: The server does not answer, or serves another model.
        DatasetError: The data set holds no usable clips.
        ServerError: No Triton is available to start.
    """
    plan = plan or Plan()
    bundle = Bundle(root)
    threads = plan.threads or available_cores()
    candidates = find_candidates(bundle, plan.formats, peers=plan.peers)
    unmeasured = rejected_formats(bundle, threads) + missing_peers(bundle, plan.peers, threads)
    served = ServedRows(bundle, plan, candidates, threads)
    held_out = None
    if plan.data is not None:
        held_out = HeldOutVideos(plan.data, plan.positive, bundle.manifest.threshold, plan.clips)
    environment = describe_machine(threads)
    say("benchmark: measure the peak rate of the machine")
    peaks = measure_peaks(threads, min(plan.seconds, _PEAK_SECONDS))
    with SideBySide(bundle, plan, candidates, threads, peaks, held_out) as side_by_side:
        measured = [row for what in plan.workloads for row in side_by_side.run(what)]
        measured += served.run(side_by_side)
    return _record(bundle, environment, peaks, [*measured, *unmeasured], held_out)


def _record(
    bundle: Bundle,
    environment: Environment,
    peaks: tuple[Peak, ...],
    rows: list[Row],
    held_out: HeldOutVideos | None,
) -> Benchmark:
    manifest = bundle.manifest
    return Benchmark(
        created=now(),
        command=shlex.join(["vdeploy", *sys.argv[1:]]),
        vdeploy_version=__version__,
        bundle=str(bundle.root),
        run=manifest.run,
        sha256={
            "classifier": manifest.classifier.weights_sha256,
            "weights": manifest.extractor.weights_sha256,
            **{f"{artifact.stage}/{artifact.format}": artifact.sha256 for artifact in manifest.artifacts},
        },
        clip_frames=manifest.clip_spec.frames,
        clip_size=manifest.clip_spec.size,
        layer=str(manifest.extractor.settings.get("layer", manifest.extractor.architecture)),
        held_out_sha256=None if held_out is None else held_out.sha256,
        environment=environment,
        peaks=peaks,
        rows=tuple(rows),
    )
