"""Choice of a decision threshold that holds on clips it was not chosen on.

The threshold with the highest F1 on some hundred clips follows their accidents: a single clip moves it far. Here the
criterion is smoothed, the choice is drawn towards what a calibrated classifier needs no clips to know, and what it is
worth is measured on clips that had no part in it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vdeploy.core.errors import DatasetError
from vdeploy.evaluation.labelled_scores import check_scores

__all__ = ["StableThreshold", "choose_stable_threshold"]

RESAMPLES = 200
"""Bootstrap resamples over sources."""

PRIOR_DEVIATION = 0.3
"""Standard deviation of the prior on the threshold's logit: two out of three lie between 0.43 and 0.57."""

_GRID = np.linspace(-4, 4, 161)
"""Candidates, as logits."""

_QUANTILE = 1.96

_EPSILON = 1e-4

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class StableThreshold:
    """A threshold, and how far it can be relied on.

    Attributes:
        threshold: A clip is flagged where its probability is at least this.
        low: Lower end of its 95 % interval, from the prior and the spread over sources.
        high: Upper end.
        gain: What it adds to the accuracy on clips of sources that it was not chosen on, against the centre of the
            prior; a share of the clips, negative where it costs accuracy. ``None`` where it cannot be measured.
    """

    threshold: float
    low: float
    high: float
    gain: float | None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.low, self.high

    def in_words(self, centre: float) -> str:
        """Two sentences for a reader of a report.

        Args:
            centre: The threshold at the centre of the prior.
        """
        text = f"The 95 % interval of the threshold is {self.low:.2f} to {self.high:.2f}."
        if self.gain is None:
            return text
        return (
            f"{text} On sources that it was not chosen on, it changes the accuracy by {100 * self.gain:+.1f} points "
            f"against a threshold of {centre:.3g}."
        )


def choose_stable_threshold(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    groups: Sequence[object] | None = None,
    cost_false_alarm: float = 1.0,
    cost_miss: float = 1.0,
    seed: int = 0,
) -> StableThreshold:
    """Choose the threshold with the lowest smoothed cost, drawn towards the centre of a prior.

    The counts of flagged clips are smoothed with a normal kernel over the logits (bandwidth by Silverman's rule, 1986,
    eq. 3.31). The logit of the best threshold then moves towards that of the prior's centre by the share
    ``s^2 / (s^2 + p^2)``, where s is its standard error over sources and p the prior's standard deviation: the mean of
    a normal posterior, whose interval is given as well. The centre is the threshold that is optimal for calibrated
    probabilities, ``false alarm / (false alarm + miss)``: 0.5 where both cost the same.

    Args:
        labels: int[N], 1 for violent, 0 for not; both occur.
        probabilities: float[N] in [0, 1], of the violent class, after calibration, of clips not learned from.
        groups: The source of each clip; a clip by itself where it is false. All clips by themselves if left out.
        cost_false_alarm: Cost of a false alarm.
        cost_miss: Cost of a miss.
        seed: Seed of the resampling.

    Raises:
        DatasetError: All clips are of one class.
        ValueError: As for `vdeploy.evaluation.metrics.evaluate`.
    """
    violent, p = check_scores(labels, probabilities)
    if violent.all() or not violent.any():
        raise DatasetError(
            f"all {len(p)} clips are of one class, so no threshold can be chosen",
            "add clips of the other class to the validation split",
        )
    logits = np.log(np.clip(p, _EPSILON, 1 - _EPSILON)) - np.log1p(-np.clip(p, _EPSILON, 1 - _EPSILON))
    costs = (cost_false_alarm, cost_miss)
    centre = _logit(cost_false_alarm / (cost_false_alarm + cost_miss))
    found = _best(violent, logits, costs, centre)
    chosen, gains = [], []
    rng = np.random.default_rng(seed)
    members = _members(len(p), groups)
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(members), size=len(members))
        inside = np.concatenate([members[index] for index in drawn])
        if violent[inside].all() or not violent[inside].any():
            continue
        chosen.append(_best(violent[inside], logits[inside], costs, centre))
        outside = np.setdiff1d(np.arange(len(p)), inside)
        if len(outside):
            gains.append((chosen[-1], outside))
    error = float(np.std(chosen)) if chosen else math.inf
    kept = PRIOR_DEVIATION**2 / (PRIOR_DEVIATION**2 + error**2)

    def drawn_in(logit: float) -> float:
        return centre + kept * (logit - centre)

    differences = [
        float(np.mean((logits[part] >= drawn_in(logit)) == violent[part]))
        - float(np.mean((logits[part] >= centre) == violent[part]))
        for logit, part in gains
    ]
    deviation = PRIOR_DEVIATION * math.sqrt(1 - kept)
    return StableThreshold(
        threshold=_sigmoid(drawn_in(found)),
        low=_sigmoid(drawn_in(found) - _QUANTILE * deviation),
        high=_sigmoid(drawn_in(found) + _QUANTILE * deviation),
        gain=float(np.mean(differences)) if differences else None,
    )


def _best(violent: Bools, logits: Floats, costs: tuple[float, float], centre: float) -> float:
    """The candidate with the lowest smoothed cost; of equal ones the closest to the centre."""
    deviation = min(logits.std(), np.subtract(*np.percentile(logits, [75, 25])) / 1.34) or logits.std()
    bandwidth = max(0.9 * deviation * len(logits) ** -0.2, 0.05)
    flagged = _normal((logits[None] - _GRID[:, None]) / bandwidth)
    tp, fp = flagged[:, violent].sum(axis=1), flagged[:, ~violent].sum(axis=1)
    cost = costs[0] * fp + costs[1] * (violent.sum() - tp)
    best = np.flatnonzero(cost <= cost.min() + 1e-9)
    return float(_GRID[best[np.argmin(np.abs(_GRID[best] - centre))]])


def _members(count: int, groups: Sequence[object] | None) -> list[npt.NDArray[np.int64]]:
    names = [(groups[index] if groups is not None else None) or (index,) for index in range(count)]
    members: dict[object, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    return [np.array(rows, np.int64) for rows in members.values()]


def _normal(z: Floats) -> Floats:
    """The cumulative normal distribution, by its logistic approximation (Bowling et al. 2009); error below 0.01."""
    distribution: Floats = 1 / (1 + np.exp(-np.clip(1.702 * z, -60, 60)))
    return distribution


def _logit(p: float) -> float:
    p = min(max(p, _EPSILON), 1 - _EPSILON)
    return math.log(p / (1 - p))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
