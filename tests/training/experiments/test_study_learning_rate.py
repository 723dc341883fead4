"""The range test: the loss falls, then diverges, and the suggestion lies below."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drift import drift_split, small_recipe

from training.engine.trainer import FeatureSplit
from training.experiments.learning_rate import RateCurve, smoothed, suggested_rate, sweep
from training.experiments.learning_rate_chart import write_rate_curve
from vdeploy.core.errors import StudyError


@pytest.fixture(scope="module")
def curve() -> RateCurve:
    return sweep(small_recipe("head.dropout=0.1"), drift_split(64), low=1e-5, high=10.0, steps=80)


def test_the_rate_rises_by_one_factor_until_the_loss_diverges(curve: RateCurve) -> None:
    ratios = np.divide(curve.rates[1:], curve.rates[:-1])
    assert ratios == pytest.approx(np.full(len(ratios), (10 / 1e-5) ** (1 / 79)))
    assert len(curve.rates) == len(curve.losses) == len(curve.smooth)
    assert min(curve.smooth) < 0.5 * curve.smooth[0]


def test_the_suggestion_is_a_tenth_of_the_rate_with_the_lowest_loss(curve: RateCurve) -> None:
    assert curve.suggested == pytest.approx(curve.rates[int(np.argmin(curve.smooth))] / 10)
    assert 1e-4 < curve.suggested < 0.3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve() -> None:
    first, again = (sweep(small_recipe(), drift_split(32), steps=10, high=1e-2) for _ in range(2))
    assert first == again


def test_smoothing_has_no_start_up_bias() -> None:
    np.testing.assert_allclose(smoothed([3.0] * 5), 3.0)
    np.testing.assert_allclose(smoothed([1.0, 2.0]), [1.0, (0.09 + 0.2) / 0.19])


def test_a_loss_that_never_falls_is_said_so() -> None:
    with pytest.raises(StudyError, match="never falls"):
        suggested_rate(np.array([0.1, 0.2]), np.array([1.0, 2.0]))


@pytest.mark.parametrize(("low", "high", "steps"), [(0.0, 1.0, 100), (1.0, 0.1, 100), (0.1, 1.0, 9)])
def test_an_empty_range_is_refused(low: float, high: float, steps: int) -> None:
    with pytest.raises(StudyError, match="0 < low < high and 10 steps"):
        sweep(small_recipe(), drift_split(8), low=low, high=high, steps=steps)


def test_one_class_only_is_refused() -> None:
    split = drift_split(8)
    with pytest.raises(StudyError, match="one class only"):
        sweep(small_recipe(), FeatureSplit(split.features, np.zeros_like(split.labels)))


def test_features_that_are_no_numbers_are_told() -> None:
    split = drift_split(8)
    split.features[:] = np.nan
    with pytest.raises(StudyError, match="features hold NaN or infinity"):
        sweep(small_recipe(), split)


CURVE = RateCurve((1e-3, 1e-2, 1e-1), (1.0, 0.5, 2.0), (1.0, 0.6, 1.5), 1e-3)


def test_the_suffix_says_what_is_written(tmp_path: Path) -> None:
    for name in ("c.png", "c.svg", "c.json"):
        write_rate_curve(CURVE, tmp_path / name)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "c.svg").read_text()
    assert json.loads((tmp_path / "c.json").read_text())["suggested"] == 1e-3


def test_another_suffix_or_an_unwritable_place_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"c\.pdf is neither a picture nor JSON; name it \*\.png, \*\.svg or \*\.json"):
        write_rate_curve(CURVE, tmp_path / "c.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"cannot write .*c\.json"):
        write_rate_curve(CURVE, tmp_path / "file" / "c.json")
