"""A threshold that few clips choose stays near its prior, and what it is worth is measured elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.core.errors import DatasetError
from vdeploy.evaluation.stable_threshold import choose_stable_threshold
from vdeploy.evaluation.thresholds import choose_threshold


def scores(count: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities: labels are drawn from them. With a shift, the logits are off by that much."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, count)
    labels = (random.random(count) < 1 / (1 + np.exp(-logits))).astype(int)
    return labels, 1 / (1 + np.exp(-(logits + shift)))


def test_calibrated_probabilities_keep_a_threshold_near_half() -> None:
    stable = [choose_stable_threshold(*scores(100, seed), seed=seed).threshold for seed in range(10)]
    free = [choose_threshold(*scores(100, seed), by="f1") for seed in range(10)]
    assert max(abs(threshold - 0.5) for threshold in stable) < 0.15
    assert np.std(stable) < np.std(free) / 2


@pytest.mark.slow
def test_many_clips_overrule_the_prior() -> None:
    few = choose_stable_threshold(*scores(60, 0, shift=1.5))
    many = choose_stable_threshold(*scores(4000, 0, shift=1.5))
    best = 1 / (1 + np.exp(-1.5))
    assert abs(many.threshold - best) < 0.1
    assert abs(few.threshold - best) > abs(many.threshold - best)
    assert many.gain is not None
    assert many.gain > 0.02
    assert many.low <= many.threshold <= many.high
    assert many.high - many.low < few.high - few.low + 0.2


def test_costs_move_the_centre() -> None:
    labels, probabilities = scores(200, 1)
    careful = choose_stable_threshold(labels, probabilities, cost_miss=9.0)
    assert abs(careful.threshold - 0.1) < 0.1
    assert "changes the accuracy by" in careful.in_words(0.1)
    assert "against a threshold of 0.1." in careful.in_words(0.1)


def test_the_interval_is_wider_with_few_sources() -> None:
    labels, probabilities = scores(300, 2)
    alone = choose_stable_threshold(labels, probabilities)
    # Ten copies of thirty clips are three hundred clips, but thirty sources.
    few = np.tile(labels[:30], 10), np.tile(probabilities[:30], 10)
    copied = choose_stable_threshold(*few, groups=[f"s{index % 30}" for index in range(300)])
    trusted = choose_stable_threshold(*few)
    assert copied.high - copied.low > trusted.high - trusted.low
    assert choose_stable_threshold(labels, probabilities, groups=[""] * 300) == alone


def test_one_source_for_each_class_has_no_outside() -> None:
    stable = choose_stable_threshold([0, 1], [0.2, 0.9])
    assert stable.gain is None or isinstance(stable.gain, float)
    assert stable.low <= stable.high


def test_one_class_is_refused() -> None:
    with pytest.raises(DatasetError, match="all 3 clips are of one class"):
        choose_stable_threshold([1, 1, 1], [0.2, 0.3, 0.9])
