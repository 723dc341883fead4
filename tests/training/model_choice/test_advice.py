"""The words follow from the figures: what is not shown to be better is not recommended for its accuracy alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from training.experiments.cross_validation import CrossValidation, accuracy_difference
from training.model_choice.advice import Measured, advise
from training.model_choice.speed import Speed

SOURCES = np.repeat([f"s{number:02}" for number in range(40)], 5)
LABELS = (np.arange(200) // 5 % 2).astype(np.int64)


def judged(wrong: float, seed: int) -> CrossValidation:
    """Probabilities that are wrong for a share of the clips."""
    rng = np.random.default_rng(seed)
    right = rng.random((3, 200)) >= wrong
    return CrossValidation(LABELS, SOURCES, np.where(right == LABELS, 0.9, 0.1) + rng.normal(0, 0.01, (3, 200)))


def measured(name: str, wrong: float, ms: float | None, seed: int = 0) -> Measured:
    speed = None if ms is None else Speed("bundle", 1, 1.0, {"onnx-fp32": 3 * ms, "onnx-int8": ms}, {})
    return Measured(name, judged(wrong, seed), speed)


def test_a_clear_winner_is_for_accuracy_and_the_fast_one_for_speed():
    advice = advise([measured("big", 0.05, 300.0), measured("small", 0.3, 20.0, 1)])
    assert (advice.accuracy, advice.speed) == ("big", "small")
    assert advice.words[0].startswith("For accuracy take big: 96.2 % of clips right (94.")
    assert "For speed take small: 20 ms a clip, 15.0 times as fast as big, if 2" in advice.words[-1]
    assert advice.words[-1].endswith("of accuracy less are acceptable.")


def test_of_equals_the_cheapest_is_taken():
    advice = advise([measured("big", 0.1, 300.0), measured("small", 0.1, 20.0)])
    assert (advice.accuracy, advice.speed) == ("small", "small")
    assert advice.words[1].startswith("big is not shown to be better (0.0 points")
    assert advice.words[-1] == "For speed take small as well: 20 ms a clip."


@pytest.mark.slow
def test_a_better_model_that_costs_more_is_still_best_for_accuracy():
    advice = advise([measured("big", 0.1, 300.0), measured("small", 0.25, 20.0, 1)])
    assert advice.accuracy == "big"


def test_the_best_model_is_not_taken_where_it_is_not_shown_to_see():
    """Right for three clips of four at the threshold, while hardly any violent clip is above the non-violent ones."""
    rng = np.random.default_rng(0)
    scores = np.where(
        LABELS, rng.choice([0.51, 0.01], (3, 200), p=[0.9, 0.1]), rng.choice([0.4, 0.99], (3, 200), p=[0.6, 0.4])
    )
    best = dataclasses.replace(measured("big", 0.1, 300.0), judged=CrossValidation(LABELS, SOURCES, scores))
    assert best.roc_auc.low <= 0.5
    advice = advise([best, measured("small", 0.4, 20.0, 1)])
    assert advice.accuracy == "small"
    assert advice.words[1].startswith("big has 1")
    assert advice.words[1].endswith("is not shown to be above chance: add clips of more sources.")


@pytest.mark.slow
def test_no_model_sees_anything():
    advice = advise([measured("big", 0.53, 300.0), measured("small", 0.53, 20.0, 1)])
    assert (advice.accuracy, advice.speed) == (None, None)
    assert advice.words[0].startswith("No model is shown to see more than chance")


def test_without_times_nothing_is_said_of_speed():
    advice = advise([measured("big", 0.1, None)])
    assert (advice.accuracy, advice.speed) == ("big", None)
    assert len(advice.words) == 1


def test_the_difference_is_paired():
    one, other = judged(0.1, 0), judged(0.1, 0)
    assert accuracy_difference(one, other).high == accuracy_difference(one, other).low == 0
    with pytest.raises(ValueError, match="different clips"):
        accuracy_difference(one, CrossValidation(1 - LABELS, SOURCES, other.probabilities))


def test_the_fastest_format_of_a_precision():
    speed = Speed("bundle", 1, 1.0, {"onnx-int8": 5.0, "openvino-int8": 3.0, "onnx-fp32": 9.0}, {})
    assert speed.fastest("int8") == ("openvino-int8", 3.0)
    assert speed.fastest("fp16") is None
