"""The recipe's decision section decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.recipe import Recipe, load_recipe
from training.report.evaluate_run import Outcome, judge
from vdeploy.evaluation.thresholds import choose_threshold


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["decision.threshold=0.7"], "set in the recipe"),
        (["decision.threshold=f1"], "highest F1 on the validation split"),
        (
            ["decision.threshold=recall", "decision.recall_floor=0.9"],
            "highest that finds 0.9 of the violent clips of the validation split",
        ),
        (
            ["decision.threshold=cost", "decision.cost_miss=20"],
            "lowest cost on the validation split, a miss costing 20 and a false alarm 1",
        ),
    ],
)
def test_the_rule_is_told_in_words(overrides: list[str], words: str) -> None:
    assert load_recipe("default", overrides).decision.rule() == words


def judged(recipe: Recipe) -> tuple[Outcome, np.ndarray]:
    """A classifier that says what the first feature of the first frame says, on 40 clips."""
    import keras

    from vdeploy.dataset import Dataset, LabelledClip
    from vdeploy.features.extraction import Extraction

    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    scores = (random.normal(size=40) + labels).astype(np.float16)
    clips = tuple(
        LabelledClip(f"{index}.mp4", int(label), ("train", "valid")[index >= 10], "", f"{index:064d}")
        for index, label in enumerate(labels)
    )
    features = keras.Input((1, 1))
    logits = keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(features))
    model = keras.Model(features, keras.layers.Softmax()(logits))
    model.get_layer("logits").set_weights([np.array([[0.0, 1.0]]), np.array([0.5, 0.0])])
    dataset = Dataset(Path(), clips, ("calm", "fight"), given_splits=True)
    extraction = Extraction(dataset, scores.reshape(40, 1, 1), hits=40, decoded=0, notes=(), seconds=0.0)
    return judge(model, extraction, recipe), labels[10:]


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({"threshold": "f1"}, {"by": "f1"}),
        ({"threshold": "recall", "recall_floor": 0.8}, {"by": "recall", "recall_floor": 0.8}),
        (
            {"threshold": "cost", "cost_miss": 9.0, "cost_false_alarm": 2.0},
            {"by": "cost", "cost_miss": 9.0, "cost_false_alarm": 2.0},
        ),
    ],
)
def test_the_threshold_follows_the_rule(section: dict[str, object], rule: dict[str, object]) -> None:
    outcome, labels = judged(Recipe().varied(decision=section))
    probabilities = outcome.probabilities["valid"]
    assert outcome.threshold == choose_threshold(labels, probabilities, **rule)  # type: ignore[arg-type]
    assert outcome.threshold != 0.5
    assert outcome.evaluations["valid"].threshold == outcome.threshold


def test_a_number_is_taken_as_it_is() -> None:
    outcome, _ = judged(Recipe().varied(decision={"threshold": 0.7}))
    assert outcome.threshold == 0.7


def test_a_recall_floor_is_reached() -> None:
    outcome, _ = judged(Recipe().varied(decision={"threshold": "recall", "recall_floor": 0.9}))
    recall = outcome.evaluations["valid"].recall
    assert recall is not None
    assert recall >= 0.9
