"""From figures to advice: which model to take for accuracy, and which one for speed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from training.experiments.cross_validation import CrossValidation, Interval, accuracy_difference
from training.model_choice.speed import Speed

__all__ = ["Advice", "Measured", "advise"]

WORTH_POINTS = 0.02
"""Accuracy that a model may lack, by the end of the interval, and still be as good for most uses."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Figures of one candidate.

    Attributes:
        name: The recipe.
        judged: Its probabilities of clips from sources that it has not learned from.
        speed: Its times; ``None`` if they were not measured.
    """

    name: str
    judged: CrossValidation
    speed: Speed | None

    @functools.cached_property
    def accuracy(self) -> Interval:
        """At a threshold of 0.5."""
        return self.judged.accuracy()

    @functools.cached_property
    def roc_auc(self) -> Interval:
        """Area under the ROC curve."""
        return self.judged.roc_auc()

    @property
    def ms(self) -> float | None:
        """Milliseconds a clip of the fastest format."""
        return min(self.speed.ms.values(), default=None) if self.speed else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "name": self.name,
            "accuracy": dataclasses.asdict(self.accuracy),
            "accuracy_by_seed": list(self.judged.seed_accuracy),
            "roc_auc": dataclasses.asdict(self.roc_auc),
            "speed": None if self.speed is None else dataclasses.asdict(self.speed),
        }


@dataclasses.dataclass(frozen=True)
class Advice:
    """Which model to take.

    Attributes:
        accuracy: Name of the model for accuracy; ``None`` where none sees more than chance.
        speed: Name of the model for speed; ``None`` where no speed was measured, or no model sees more than chance.
        words: The reasons, a sentence each.
    """

    accuracy: str | None
    speed: str | None
    words: tuple[str, ...]


def advise(models: Sequence[Measured]) -> Advice:
    """Compares models on the same clips.

    The model for accuracy is the cheapest of those that are not shown to be less accurate than the most accurate one
    and lie within `WORTH_POINTS` of it. The model for speed is the fastest that sees more than chance.

    Args:
        models: The candidates, most accurate first.
    """
    best = models[0]
    seeing = [model for model in models if model.roc_auc.low > 0.5]
    if not seeing:
        auc = best.roc_auc
        chance = (
            "No model is shown to see more than chance on sources that it has not learned from: the best, "
            f"{best.name}, has an AUC of {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})."
        )
        return Advice(None, None, (chance, "Add clips of more sources before any of them is used."))
    accurate = _cheapest_equal(best, seeing)
    words = [f"For accuracy take {accurate.name}: {_figures(accurate)}."]
    if best not in seeing:
        auc = best.roc_auc
        words.append(
            f"{best.name} has {_points(best, accurate)} more right, but its AUC of {auc.value:.2f} ({auc.low:.2f} to "
            f"{auc.high:.2f}) is not shown to be above chance: add clips of more sources."
        )
    elif accurate is not best:
        words.append(f"{best.name} is not shown to be better ({_points(best, accurate)}) and costs more.")
    words += [
        f"{other.name} is {_points(accurate, other)} below {accurate.name}."
        for other in seeing
        if other is not accurate and other is not best
    ]
    timed = [model for model in seeing if model.ms is not None]
    if not timed:
        return Advice(accurate.name, None, tuple(words))
    fast = min(timed, key=lambda model: model.ms or 0.0)
    words.append(_for_speed(fast, accurate))
    return Advice(accurate.name, fast.name, tuple(words))


def _cheapest_equal(best: Measured, models: Sequence[Measured]) -> Measured:
    equal = [
        model
        for model in models
        if (difference := accuracy_difference(best.judged, model.judged)).low <= 0 and difference.value <= WORTH_POINTS
    ]
    known = [model for model in equal if model.ms is not None]
    return min(known, key=lambda model: model.ms or 0.0) if known else (equal or list(models))[0]


def _figures(model: Measured) -> str:
    accuracy, auc = model.accuracy, model.roc_auc
    return (
        f"{100 * accuracy.value:.1f} % of clips right ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}), "
        f"AUC {auc.value:.2f}"
    )


def _points(better: Measured, other: Measured) -> str:
    difference = accuracy_difference(better.judged, other.judged)
    return f"{100 * difference.value:.1f} points ({100 * difference.low:.1f} to {100 * difference.high:.1f})"


def _for_speed(fast: Measured, accurate: Measured) -> str:
    if fast is accurate:
        return f"For speed take {fast.name} as well: {fast.ms:.0f} ms a clip."
    text = f"For speed take {fast.name}: {fast.ms:.0f} ms a clip"
    if accurate.ms is not None and fast.ms:
        text += f", {accurate.ms / fast.ms:.1f} times as fast as {accurate.name}"
    difference = accuracy_difference(accurate.judged, fast.judged)
    if difference.low > 0:
        return f"{text}, if {_points(accurate, fast)} of accuracy less are acceptable."
    return f"{text}; on these clips it is not shown to be less accurate."
