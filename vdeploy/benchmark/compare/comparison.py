"""Compares two benchmarks row by row and distinguishes changes from noise."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from vdeploy.benchmark.compare.environment_diff import differences
from vdeploy.benchmark.compare.statistics import (
    LEAST_WINDOWS,
    LogRatio,
    enough,
    holm_levels,
    log_ratio,
    mean_correlation,
)
from vdeploy.benchmark.record import Benchmark, Row
from vdeploy.benchmark.report.labels import labels
from vdeploy.core.errors import BenchmarkError

__all__ = ["DEFAULT_LIMIT", "Change", "Comparison", "Verdict", "compare"]

DEFAULT_LIMIT = 0.03
"""The default tolerated slowdown; `benchmarks/compare_power.py` shows which changes it detects."""

Verdict = Literal["slower", "faster", "same", "unclear", "not judged"]
"""Slower or faster than the limit with certainty; neither; neither, but noise may hide a change; not comparable."""

_LEVEL = 0.05
_MUCH = 0.10
"""A change that a comparison should detect."""


@dataclasses.dataclass(frozen=True)
class Change:
    """A row that both benchmarks have.

    Attributes:
        label: Label of the row.
        verdict: The conclusion.
        before_ms: Median latency in the first benchmark.
        after_ms: Median latency in the second one.
        ratio: The second over the first, from the trimmed means of the windows; ``None`` where not judged.
        interval: Bounds of the ratio at the level at which the row was tested, see `compare`.
        reason: Why it was not judged.
    """

    label: str
    verdict: Verdict
    before_ms: float | None
    after_ms: float | None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Outcome of `compare`.

    Attributes:
        limit: The tolerated slowdown, as a share.
        changes: Rows of both, in the order of the second benchmark.
        only_before: Labels of the rows that only the first benchmark has.
        only_after: Labels of the rows that only the second one has.
        differences: Other differences between the two sides, a line each.
    """

    limit: float
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """Rows that are certainly slower than the limit allows."""
        return tuple(change for change in self.changes if change.verdict == "slower")

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON-ready values."""
        return {**dataclasses.asdict(self), "regressions": [change.label for change in self.regressions]}


def compare(before: Benchmark, after: Benchmark, limit: float = DEFAULT_LIMIT) -> Comparison:
    """Compares the median latencies of two benchmarks.

    A row is slower where the lower bound of its ratio lies above ``1 + limit`` and faster where the upper bound lies
    below ``1 / (1 + limit)``. Else it is the same, as far as can be told, where the bounds exclude a change of 10 %, or
    of the limit if that is larger, and unclear where they do not. The levels of the bounds follow Holm's procedure:
    where nothing became slower than the limit allows, the probability that any row is called slower is meant to be 5 %
    at most, however many rows there are; the same holds for faster. `vdeploy.benchmark.compare.statistics`
    describes how noise is judged.

    Args:
        before: The benchmark to compare with.
        after: The benchmark in question.
        limit: The tolerated slowdown: 0.03 stands for 3 %.

    Returns:
        The comparison. Rows that did not settle on a side, or that have too few windows, are not judged.

    Raises:
        BenchmarkError: The two have no row in common.
    """
    if not 0 <= limit < math.inf:
        raise BenchmarkError(f"{limit:.0%} is no limit", "give 0 % or more: --limit 3")
    old, new = ({row.key: row for row in benchmark.rows} for benchmark in (before, after))
    common = [key for key in new if key in old]
    if not common:
        reasons = "; ".join(differences(before, after))
        raise BenchmarkError(
            "the two benchmarks have no row in common" + (f" ({reasons})" if reasons else ""),
            "measure the same formats and batches, in the same settings",
        )
    names = labels([*old.values(), *new.values()])
    pairs = [_Pair(names[key], old[key], new[key]) for key in common]
    judged = [pair for pair in pairs if pair.reason is None]
    correlation = mean_correlation([row.windows_ms for pair in judged for row in (pair.before, pair.after)])
    ratios = [log_ratio(pair.before.windows_ms, pair.after.windows_ms, correlation=correlation) for pair in judged]
    verdicts = dict(zip((pair.label for pair in judged), _judge(ratios, limit), strict=True))
    return Comparison(
        limit=limit,
        changes=tuple(_change(pair, verdicts.get(pair.label)) for pair in pairs),
        only_before=tuple(names[key] for key in old if key not in new),
        only_after=tuple(names[key] for key in new if key not in old),
        differences=tuple(differences(before, after)),
    )


@dataclasses.dataclass(frozen=True)
class _Pair:
    label: str
    before: Row
    after: Row

    @property
    def reason(self) -> str | None:
        """Why the two cannot be compared; ``None`` where they can."""
        for row, when in ((self.before, "before"), (self.after, "after")):
            if row.status != "ok":
                return f"{row.status} {when}" + (f": {row.reason}" if row.reason else "")
            if not row.settled:
                return f"did not settle {when}"
            if not enough(row.windows_ms):
                return f"fewer than {LEAST_WINDOWS} windows {when}; measure for longer: --seconds"
        return None


@dataclasses.dataclass(frozen=True)
class _Judgement:
    verdict: Verdict
    ratio: float
    interval: tuple[float, float]


def _judge(ratios: list[LogRatio], limit: float) -> list[_Judgement]:
    """Tests every ratio against the limit, both ways; each bound is of the level at which its side was tested."""
    highest, lowest = 1 + limit, 1 / (1 + limit)
    much = 1 + max(limit, _MUCH)
    slower = holm_levels([ratio.p_above(highest) for ratio in ratios], _LEVEL)
    faster = holm_levels([ratio.p_below(lowest) for ratio in ratios], _LEVEL)
    judgements = []
    for ratio, (is_slower, level_below), (is_faster, level_above) in zip(ratios, slower, faster, strict=True):
        low, high = ratio.interval(level_below)[0], ratio.interval(level_above)[1]
        within = 1 / much <= low and high <= much
        verdict: Verdict = "slower" if is_slower else "faster" if is_faster else "same" if within else "unclear"
        judgements.append(_Judgement(verdict, math.exp(ratio.estimate), (low, high)))
    return judgements


def _change(pair: _Pair, judgement: _Judgement | None) -> Change:
    before_ms, after_ms = pair.before.p50_ms, pair.after.p50_ms
    if judgement is None:
        return Change(pair.label, "not judged", before_ms, after_ms, reason=pair.reason)
    return Change(pair.label, judgement.verdict, before_ms, after_ms, judgement.ratio, judgement.interval)
