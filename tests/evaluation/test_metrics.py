"""Figures against hand-worked cases and scikit-learn's, intervals, thresholds and temperature."""

from __future__ import annotations

import json
import math
import sys
import warnings

import numpy as np
import pytest
from sklearn import metrics

from vdeploy.core.errors import DatasetError, MissingExtraError
from vdeploy.evaluation import calibration, intervals
from vdeploy.evaluation.calibration import Calibration, fit_calibration, log_loss, reliability
from vdeploy.evaluation.metrics import evaluate
from vdeploy.evaluation.thresholds import choose_threshold


def _clips(count: int, seed: int = 0, *, coarse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels and overlapping scores; coarse ones have many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    probabilities = 1 / (1 + np.exp(-(rng.normal(size=count) * 2 + (labels - 0.5) * 3)))
    return labels, probabilities.round(1) if coarse else probabilities


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


class TestEvaluate:
    def test_figures_worked_by_hand(self) -> None:
        found = evaluate([0, 0, 0, 1, 1], [0.1, 0.6, 0.3, 0.4, 0.9], bootstrap=0)
        assert found.confusion.matrix == ((2, 1), (1, 1))
        assert (found.clips, found.violent, found.threshold) == (5, 2, 0.5)
        assert found.accuracy == pytest.approx(3 / 5)
        assert found.accuracy_non_violent == pytest.approx(2 / 3)
        assert found.accuracy_violent == found.recall == pytest.approx(1 / 2)
        assert found.balanced_accuracy == pytest.approx(7 / 12)
        assert found.precision == pytest.approx(1 / 2)
        assert found.f1 == pytest.approx(1 / 2)
        assert found.roc_auc == pytest.approx(5 / 6)
        assert found.average_precision == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
        assert found.brier == pytest.approx((0.01 + 0.36 + 0.09 + 0.36 + 0.01) / 5)
        assert found.log_loss == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.4, 0.9]).mean())
        assert found.intervals == {}
        assert found.groups == {}

    def test_ties_count_half_in_the_auc(self) -> None:
        assert evaluate([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]).roc_auc == 0.5
        assert evaluate([0, 1, 1], [0.5, 0.5, 0.9]).roc_auc == pytest.approx(3 / 4)

    @pytest.mark.parametrize("coarse", [False, True])
    @pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
    def test_agrees_with_scikit_learn(self, coarse: bool, threshold: float) -> None:
        labels, p = _clips(237, coarse=coarse)
        p = p.clip(0.01, 0.99)
        said = p >= threshold
        found = evaluate(labels, p, threshold=threshold, bootstrap=0)
        assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, said))
        assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, said))
        assert found.precision == pytest.approx(metrics.precision_score(labels, said))
        assert found.recall == pytest.approx(metrics.recall_score(labels, said))
        assert found.f1 == pytest.approx(metrics.f1_score(labels, said))
        assert found.roc_auc == pytest.approx(metrics.roc_auc_score(labels, p))
        assert found.average_precision == pytest.approx(metrics.average_precision_score(labels, p))
        assert found.log_loss == pytest.approx(metrics.log_loss(labels, p))
        assert found.brier == pytest.approx(metrics.brier_score_loss(labels, p))
        assert [list(row) for row in found.confusion.matrix] == metrics.confusion_matrix(labels, said).tolist()

    def test_a_score_at_the_threshold_is_flagged(self) -> None:
        assert evaluate([1, 0], [0.7, 0.69], threshold=0.7).confusion.matrix == ((1, 0), (0, 1))

    @pytest.mark.parametrize("label", [0, 1])
    @pytest.mark.parametrize("score", [0.0, 0.2, 1.0])
    def test_one_class_alone_has_no_ranking_and_no_warning(self, label: int, score: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = evaluate([label] * 4, [score] * 4, groups=["a", "a", "b", ""])
        assert found.roc_auc is found.average_precision is found.balanced_accuracy is None
        other = found.accuracy_violent if label == 0 else found.accuracy_non_violent
        assert other is None
        assert set(found.intervals) == (
            {"accuracy", "accuracy_non_violent"} if label == 0 else {"accuracy", "accuracy_violent", "f1"}
        )
        json.dumps(found.to_dict(), allow_nan=False)

    def test_nothing_flagged_has_no_precision_but_an_f1_of_zero(self) -> None:
        found = evaluate([0, 1], [0.1, 0.2])
        assert found.precision is None
        assert found.f1 == 0

    def test_the_dictionary_is_json_with_named_cells(self) -> None:
        labels, p = _clips(40)
        values = json.loads(json.dumps(evaluate(labels, p, groups=["x"] * 40).to_dict(), allow_nan=False))
        assert set(values["confusion"]) == {"tn", "fp", "fn", "tp"}
        assert sum(values["confusion"].values()) == 40
        assert values["groups"]["x"]["accuracy"] == values["accuracy"]
        assert len(values["intervals"]["f1"]) == 2

    def test_groups_are_evaluated_apart_and_sorted(self) -> None:
        found = evaluate([0, 1, 0, 1], [0.1, 0.9, 0.9, 0.1], groups=["rink", "rink", "bar", ""])
        assert list(found.groups) == ["bar", "rink"]
        assert found.groups["rink"].accuracy == 1
        assert found.groups["bar"].accuracy == 0
        assert found.groups["bar"].roc_auc is None

    @pytest.mark.parametrize(
        ("labels", "probabilities", "message"),
        [
            ([], [], "no clips"),
            ([0, 1], [0.5], "one length"),
            ([0, 2], [0.5, 0.5], "labels"),
            ([0, 1], [0.5, 1.5], "probabilities"),
            ([0, 1], [0.5, math.nan], "diverged"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, labels: list, probabilities: list, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            evaluate(labels, probabilities)

    @pytest.mark.parametrize(("module", "bootstrap"), [("sklearn.metrics", 0), ("scipy.stats", 10)])
    def test_without_the_report_extra_it_is_named(
        self, monkeypatch: pytest.MonkeyPatch, module: str, bootstrap: int
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=rf"needs the Python package {module}; run: .*\[report\]"):
            evaluate([0, 1], [0.1, 0.9], bootstrap=bootstrap)

    def test_groups_of_another_length_are_refused(self) -> None:
        with pytest.raises(ValueError, match="1 groups for 2 clips"):
            evaluate([0, 1], [0.1, 0.9], groups=["a"])


class TestIntervals:
    def test_they_contain_the_estimate_and_shrink_with_more_clips(self) -> None:
        few, many = (evaluate(*_clips(count)) for count in (100, 1600))
        for name in ("accuracy", "accuracy_non_violent", "accuracy_violent", "f1", "roc_auc"):
            for found in (few, many):
                low, high = found.intervals[name]
                assert low < getattr(found, name) < high
            widths = [np.ptp(found.intervals[name]) for found in (few, many)]
            assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)

    def test_a_class_accuracy_has_the_width_of_a_binomial(self) -> None:
        labels = np.repeat([0, 1], 400)
        p = np.concatenate([np.full(400, 0.1), np.repeat([0.2, 0.9], [100, 300])])
        low, high = evaluate(labels, p, bootstrap=4000).intervals["accuracy_violent"]
        deviation = math.sqrt(0.75 * 0.25 / 400)
        assert (low, high) == pytest.approx((0.75 - 1.96 * deviation, 0.75 + 1.96 * deviation), abs=0.005)

    @pytest.mark.slow
    def test_the_auc_interval_agrees_with_plain_resampling(self) -> None:
        labels, p = _clips(80, coarse=True)
        rng = np.random.default_rng(5)
        positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        values = []
        for _ in range(800):
            drawn = np.concatenate([rng.choice(positives, len(positives)), rng.choice(negatives, len(negatives))])
            values.append(metrics.roc_auc_score(labels[drawn], p[drawn]))
        expected = np.percentile(values, [2.5, 97.5])
        assert evaluate(labels, p, bootstrap=3000).intervals["roc_auc"] == pytest.approx(expected, abs=0.015)

    def test_the_seed_decides(self) -> None:
        labels, p = _clips(60)
        assert evaluate(labels, p, seed=1) == evaluate(labels, p, seed=1)
        assert evaluate(labels, p, seed=1).intervals != evaluate(labels, p, seed=2).intervals

    def test_resampling_in_small_batches_gives_the_same_intervals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        labels, p = _clips(60)
        whole = evaluate(labels, p, bootstrap=4000).intervals
        monkeypatch.setattr(intervals, "_BATCH_VALUES", 64)
        for name, interval in evaluate(labels, p, bootstrap=4000).intervals.items():
            assert interval == pytest.approx(whole[name], abs=0.03)

    @pytest.mark.parametrize("label", [0, 1])
    def test_a_class_of_one_clip_is_always_drawn(self, label: int) -> None:
        found = evaluate([label, *[1 - label] * 5], [0.6, 0.2, 0.7, 0.4, 0.8, 0.3])
        name = "accuracy_violent" if label else "accuracy_non_violent"
        assert found.intervals[name] == (float(label), float(label))
        low, high = found.intervals["accuracy"]
        assert low < found.accuracy < high


class TestChooseThreshold:
    def test_f1_takes_the_midpoint_of_the_best_split(self) -> None:
        assert choose_threshold([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.35, 0.6, 0.9]) == pytest.approx(0.25)

    def test_a_clean_split_is_cut_in_the_middle_of_the_gap(self) -> None:
        assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.9, 1.0]) == pytest.approx(0.55)

    def test_ties_go_toward_one_half_and_then_down(self) -> None:
        labels, p = [1, 0, 1, 0], [0.2, 0.4, 0.6, 0.8]
        costs = {
            cut: sum((score >= cut) != label for label, score in zip(labels, p, strict=True))
            for cut in (0.1, 0.3, 0.5, 0.7, 0.9)
        }
        assert costs == {0.1: 2, 0.3: 3, 0.5: 2, 0.7: 3, 0.9: 2}
        assert choose_threshold(labels, p, by="cost") == pytest.approx(0.5)
        assert choose_threshold([1, 0], [0.5, 0.5], by="cost") == pytest.approx(0.25)

    @pytest.mark.parametrize(("floor", "expected"), [(0.25, 0.85), (0.5, 0.65), (0.51, 0.45), (0.75, 0.45), (1.0, 0.2)])
    def test_recall_takes_the_highest_threshold_above_the_floor(self, floor: float, expected: float) -> None:
        labels, p = [0, 1, 0, 1, 1, 1], [0.1, 0.3, 0.4, 0.5, 0.8, 0.9]
        assert choose_threshold(labels, p, by="recall", recall_floor=floor) == pytest.approx(expected)

    def test_costs_move_the_threshold(self) -> None:
        labels, p = [0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8]
        assert choose_threshold(labels, p, by="cost", cost_miss=10) == pytest.approx(0.3)
        assert choose_threshold(labels, p, by="cost", cost_false_alarm=10) == pytest.approx(0.7)

    @pytest.mark.slow
    @pytest.mark.parametrize("by", ["f1", "cost"])
    def test_no_threshold_does_better(self, by: str) -> None:
        labels, p = _clips(90, coarse=True)

        def merit(cut: float) -> float:
            found = evaluate(labels, p, threshold=cut, bootstrap=0)
            return found.f1 if by == "f1" else -(found.confusion.fp + 3 * found.confusion.fn)

        chosen = choose_threshold(labels, p, by=by, cost_miss=3)
        assert merit(chosen) == max(merit(cut) for cut in np.linspace(0, 1, 401))

    def test_it_stays_within_zero_and_one(self) -> None:
        assert choose_threshold([1, 1], [0.0, 0.0]) == 0
        assert choose_threshold([0, 0], [1.0, 1.0], by="cost") <= 1

    @pytest.mark.parametrize("by", ["f1", "recall"])
    def test_without_violent_clips_it_says_so(self, by: str) -> None:
        with pytest.raises(DatasetError, match=f"none of the 2 clips is violent, so no threshold .* by {by}; add"):
            choose_threshold([0, 0], [0.1, 0.2], by=by, recall_floor=0.9)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"by": "recall"}, "recall_floor"),
            ({"by": "recall", "recall_floor": 1.2}, "recall_floor"),
            ({"by": "cost", "cost_miss": -1.0}, "costs"),
            ({"by": "cost", "cost_miss": 0.0, "cost_false_alarm": 0.0}, "costs"),
            ({"by": "luck"}, "'luck'"),
        ],
    )
    def test_wrong_options_are_refused(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            choose_threshold([0, 1], [0.1, 0.9], **options)


class TestReliability:
    def test_error_worked_by_hand(self) -> None:
        # Confidences 0.95 and 0.97 share the last bin, both right; 0.70 and 0.72 share another, one of them right.
        bins = reliability([1, 0, 1, 0], [0.95, 0.03, 0.70, 0.72])
        assert bins.counts.tolist() == [0] * 10 + [2, 0, 0, 0, 2]
        assert bins.confidence[[10, 14]] == pytest.approx([0.71, 0.96])
        assert bins.accuracy[[10, 14]] == pytest.approx([0.5, 1.0])
        assert bins.error == pytest.approx((abs(0.5 - 0.71) + abs(1 - 0.96)) / 2)
        assert evaluate([1, 0, 1, 0], [0.95, 0.03, 0.70, 0.72], threshold=0.9).expected_calibration_error == bins.error

    def test_a_border_belongs_to_the_bin_below(self) -> None:
        assert reliability([1, 1, 1], [0.5, 0.75, 1.0], bins=4).counts.tolist() == [0, 1, 1, 1]

    def test_calibrated_scores_have_a_small_error_and_sharpened_ones_a_large_one(self) -> None:
        rng = np.random.default_rng(0)
        p = rng.uniform(size=40_000)
        labels = rng.uniform(size=p.size) < p
        assert reliability(labels, p).error < 0.01
        assert reliability(labels, Calibration(0.2).apply(p)).error > 0.1


class TestCalibration:
    @pytest.mark.parametrize(("temperature", "bias"), [(0.5, 0.0), (1.0, 1.0), (2.5, -2.0)])
    def test_it_recovers_what_was_spoilt(self, temperature: float, bias: float) -> None:
        rng = np.random.default_rng(1)
        logits = rng.normal(scale=2, size=60_000)
        labels = rng.uniform(size=logits.size) < _sigmoid(logits)
        found = fit_calibration(labels, _sigmoid(logits * temperature - bias))
        assert found.temperature == pytest.approx(temperature, rel=0.03)
        assert found.bias == pytest.approx(bias, abs=0.05)

    def test_it_divides_logits_and_keeps_the_shape(self) -> None:
        logits = np.array([[-3.0, 0.0], [0.5, 4.0]])
        np.testing.assert_allclose(Calibration(2.0).apply(_sigmoid(logits)), _sigmoid(logits / 2), rtol=1e-9)
        np.testing.assert_allclose(Calibration(2.0, 1.0).apply(_sigmoid(logits)), _sigmoid((logits + 1) / 2), rtol=1e-9)
        np.testing.assert_allclose(Calibration().apply([0.2, 0.5, 0.9]), [0.2, 0.5, 0.9])

    def test_certainty_stays_finite(self) -> None:
        labels, p = [0, 1, 1, 0], [0.0, 1.0, 0.0, 1.0]
        found = fit_calibration(labels, p)
        assert found.temperature == pytest.approx(calibration.TEMPERATURE_RANGE[1], rel=1e-3)
        mended = found.apply(p)
        assert ((mended > 0) & (mended < 1)).all()
        assert log_loss(labels, mended) < log_loss(labels, p) < 20

    def test_it_does_not_make_the_loss_worse_beyond_what_the_prior_costs(self) -> None:
        for seed in range(60):
            rng = np.random.default_rng(seed)
            labels, p = rng.integers(0, 2, 200), rng.choice([0.0, 0.1, 0.4, 0.5, 0.6, 0.9, 1.0], 200)
            assert log_loss(labels, fit_calibration(labels, p).apply(p)) <= log_loss(labels, p) + 1e-3

    def test_a_flawless_set_is_as_sure_as_its_size_allows(self) -> None:
        few, many = (fit_calibration([0, 1] * count, [0.3, 0.8] * count).apply([0.3, 0.8]) for count in (2, 50))
        assert few == pytest.approx([1 / 6, 5 / 6], abs=1e-3)
        assert many == pytest.approx([1 / 102, 101 / 102], abs=1e-3)

    def test_scores_that_all_lie_too_low_are_raised(self) -> None:
        labels, p = np.arange(40) % 2, np.where(np.arange(40) % 2, 0.4, 0.1)
        assert ((fit_calibration(labels, p).apply(p) > 0.5) == (labels == 1)).all()

    @pytest.mark.parametrize("label", [0, 1])
    def test_one_class_alone_changes_nothing(self, label: int) -> None:
        assert fit_calibration([label] * 3, [0.3, 0.6, 0.8]) == Calibration()

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
    def test_a_temperature_that_is_none_is_refused(self, temperature: float) -> None:
        with pytest.raises(ValueError, match="temperature must be positive"):
            Calibration(temperature)

    def test_a_bias_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="bias must be finite"):
            Calibration(1.0, math.nan)

    def test_without_scipy_it_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "scipy.optimize", None)
        with pytest.raises(
            MissingExtraError, match=r"calibration needs the Python package scipy.optimize; run: .*train"
        ):
            fit_calibration([0, 1], [0.6, 0.4])
