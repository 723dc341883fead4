"""What a search has found, as a table and in a sentence."""

from __future__ import annotations

from vdeploy.benchmark.tuning.search import Outcome
from vdeploy.benchmark.tuning.tune import Tuned
from vdeploy.triton.planning.tuned_serving import TunedServing
from vdeploy.triton.repository.options import ServingOptions

__all__ = ["COLUMNS", "RATE_COLUMNS", "comparison", "rate_rows", "table_rows"]

COLUMNS = (
    *("extractor", "classifier", "backend", "instances", "threads", "batch", "wait ms"),
    *("clips/s", "p99 ms", "CPU ms a clip", ""),
)

RATE_COLUMNS = ("clips/s", "p99 ms", "")


def table_rows(found: Tuned) -> list[tuple[object, ...]]:
    """A row for each trial, the best first."""
    rows: list[tuple[object, ...]] = []
    for trial in found.trials:
        tried, held = trial.configuration, trial.outcome.held
        wait = ServingOptions(latency_budget_ms=tried.latency_budget_ms).extractor_delay_microseconds / 1000
        remark = trial.outcome.problem or ("defaults" if tried == found.record.defaults else "")
        rows.append(
            (
                *(tried.extractor, tried.classifier, tried.backend, tried.instances, tried.instance_threads),
                *(tried.max_batch, None if tried.max_batch == 1 else f"{wait:.3g}"),
                f"{held.clips_per_s:.3g}",
                None if held.p99_ms is None else f"{held.p99_ms:.0f}",
                None if held.cpu_s_per_clip is None else f"{1000 * held.cpu_s_per_clip:.3g}",
                remark,
            )
        )
    return rows


def rate_rows(found: Outcome) -> list[tuple[object, ...]]:
    """A row for each rate that was tried."""
    return [
        (f"{rate:.3g}", None if p99 is None else f"{p99:.0f}", "given up early" if stopped else "")
        for rate, p99, stopped in found.points
    ]


def comparison(record: TunedServing) -> str:
    """What was found against the defaults, by arrivals that have chosen nothing."""
    found, usual = record.held, record.defaults_held
    if record.configuration == record.defaults:
        return f"the defaults are best: {found}"
    ratio = f"{found.clips_per_s / usual.clips_per_s:.2f}x" if usual.clips_per_s else "and the defaults hold none"
    return f"{record.configuration}: {found} on other arrivals, the defaults {usual}: {ratio}"
