"""Keep the speeds of a bundle's formats on this machine, from which `serve`, `deploy` and `predict` choose."""

from __future__ import annotations

from pathlib import Path

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.record import IN_PROCESS, Benchmark, Row
from vdeploy.core.errors import BundleError
from vdeploy.core.progress import say
from vdeploy.formats import FORMATS
from vdeploy.inference.format_speeds import Comparison, load_speeds
from vdeploy.inference.machine_record import save_record

__all__ = ["keep_speeds"]


def keep_speeds(root: Path, benchmark: Benchmark) -> None:
    """Keeps what a benchmark says of formats of one precision, and says so in a line each.

    Rows of the whole pipeline count, in process on all cores of the CPU, one clip a call, that have settled or whose
    windows all lie above or all below those of the others. Formats that were measured apart are not comparable: what a
    benchmark compares replaces what an earlier one has of that precision. What cannot be kept is reported.

    Args:
        root: Folder of the bundle.
        benchmark: What was measured.
    """
    by_precision: dict[str, list[Row]] = {}
    for row in benchmark.rows:
        if _counts(row, benchmark):
            by_precision.setdefault(FORMATS[row.format].precision, []).append(row)
    compared = {precision: rows for precision, rows in by_precision.items() if len(rows) > 1}
    if not compared:
        return
    bundle = _measured_bundle(root, benchmark)
    if bundle is None:
        say(f"speeds: nothing is kept, {root} has changed since the benchmark began")
        return
    comparisons = {}
    for precision, rows in compared.items():
        clip_ms = {row.format: float(row.p50_ms or 0.0) for row in rows if _is_certain(row, rows)}
        if len(clip_ms) > 1:
            comparisons[precision] = Comparison(measured=benchmark.created, clip_ms=clip_ms)
        else:
            noisy = ", ".join(row.name for row in rows if not _is_certain(row, rows))
            say(f"speeds: nothing is kept of {precision}, as {noisy} did not settle; try more --seconds")
    if not comparisons:
        return
    record = load_speeds(bundle)
    record = record.model_copy(update={"comparisons": {**record.comparisons, **comparisons}})
    try:
        save_record(record)
    except OSError as error:
        say(f"speeds: {record.path} cannot be written ({error.strerror}); set VDEPLOY_CACHE to a writable folder")
        return
    for comparison in comparisons.values():
        listed = ", ".join(comparison.fastest_first())
        say(f"speeds: {listed} a clip; serve and predict choose by that on this machine")


def _counts(row: Row, benchmark: Benchmark) -> bool:
    is_plain = row.what == "pipeline" and row.where == IN_PROCESS and row.batch == 1 and not row.peer
    is_timed = row.status == "ok" and row.p50_ms is not None and row.format in FORMATS
    return is_plain and is_timed and row.device == "cpu" and row.threads == benchmark.environment.cores


def _is_certain(row: Row, rows: list[Row]) -> bool:
    others = [other.windows_ms for other in rows if other is not row]
    own = row.windows_ms
    return row.settled or all(own and (max(own) < min(windows) or min(own) > max(windows)) for windows in others)


def _measured_bundle(root: Path, benchmark: Benchmark) -> Bundle | None:
    """The bundle, if it is still the one that was measured: another export may have replaced it."""
    try:
        bundle = Bundle(root)
    except BundleError:
        return None
    held = {f"{artifact.stage}/{artifact.format}": artifact.sha256 for artifact in bundle.manifest.artifacts}
    return bundle if held.items() <= benchmark.sha256.items() else None
