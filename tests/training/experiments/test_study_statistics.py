"""Intervals over seeds, and lopsided training splits."""

from __future__ import annotations

import numpy as np
import pytest
from drift import drift_split

from training.experiments.confidence_intervals import mean_over_seeds
from training.experiments.imbalance import parse_imbalance
from vdeploy.core.errors import StudyError


def test_the_interval_is_students() -> None:
    """t(0.975, 2) = 4.3027 from the tables; s of (0.8, 0.9, 1.0) is 0.1."""
    mean = mean_over_seeds([0.8, 0.9, 1.0])
    assert mean.value == pytest.approx(0.9)
    assert mean.half_width == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    assert str(mean) == "0.9000 ± 0.2484"


def test_one_seed_has_no_interval() -> None:
    assert str(mean_over_seeds([0.5])) == "0.5000"
    assert mean_over_seeds([0.5]).half_width is None


@pytest.mark.parametrize(("rare", "label"), [("non-violent", 0), ("violent", 1)])
def test_only_the_rare_class_loses_clips(rare: str, label: int) -> None:
    split = drift_split(200)
    lopsided = parse_imbalance("78/22", rare).apply(split, seed=3)
    counts = np.bincount(lopsided.labels)
    assert (counts[1 - label], counts[label]) == (100, round(100 * 22 / 78))
    kept = [split.features[split.labels == 1 - label], lopsided.features[lopsided.labels == 1 - label]]
    np.testing.assert_array_equal(*kept)
    before = {clip.tobytes() for clip in split.features[split.labels == label]}
    assert {clip.tobytes() for clip in lopsided.features[lopsided.labels == label]} < before


def test_the_seed_says_which_clips_go() -> None:
    split, imbalance = drift_split(200), parse_imbalance("78/22")
    first, again, other = (imbalance.apply(split, seed).features for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("ratio", ["78", "78:22", "a/b", "22/78", "78/0", "78/-1", "nan/1", "inf/1", ""])
def test_a_ratio_that_is_none_is_one_clear_line(ratio: str) -> None:
    with pytest.raises(StudyError, match="not of the form FREQUENT/RARE; for example 78/22"):
        parse_imbalance(ratio)


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(StudyError, match="no class 'fight'; give one of: non-violent, violent"):
        parse_imbalance("78/22", "fight")


def test_what_dropping_cannot_reach_is_refused() -> None:
    split = parse_imbalance("90/10").apply(drift_split(200), seed=0)
    with pytest.raises(StudyError, match="100 clips of one class and 11 of the other cannot be made 60/40"):
        parse_imbalance("60/40").apply(split, seed=0)
    with pytest.raises(StudyError, match="it would take 0"):
        parse_imbalance("1000/1").apply(drift_split(20), seed=0)
