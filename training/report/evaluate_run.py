"""Calibration, threshold and evaluation of a trained classifier on every split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.methods.confident_learning import LabelAudit
from training.recipe import Recipe
from training.recipe_sections import DecisionSection
from training.report.run_report import Mistake
from vdeploy.core.errors import ClipError
from vdeploy.dataset import Dataset, LabelledClip
from vdeploy.evaluation.calibration import Calibration, fit_calibration
from vdeploy.evaluation.metrics import Evaluation, evaluate
from vdeploy.evaluation.stable_threshold import StableThreshold, choose_stable_threshold
from vdeploy.evaluation.thresholds import choose_threshold
from vdeploy.features.extraction import Extraction
from vdeploy.features.prediction import predict
from vdeploy.video.workers.clips import decode_clip

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["Outcome", "decision_threshold", "judge", "judge_calibrated", "mistakes", "suspicious_clips"]

_CLIPS_SHOWN = 12
"""How many clips a list in the report shows with their frames."""

_HELD_OUT = "held-out sources of the training split"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A calibrated classifier's figures.

    Attributes:
        calibration: Calibration that is built into the classifier.
        threshold: Probability from which a clip counts as violent.
        stability: How far the threshold can be relied on, where the recipe's rule tells.
        evaluations: Figures by split.
        probabilities: Of violence, ``float[N]`` by split, calibrated.
        uncalibrated: The same before calibration.
        rule: How the threshold was chosen, in words.
        is_tuned_on_valid: Whether clips of the validation split have chosen something.
    """

    calibration: Calibration
    threshold: float
    stability: StableThreshold | None
    evaluations: dict[str, Evaluation]
    probabilities: dict[str, npt.NDArray[np.float64]]
    uncalibrated: dict[str, npt.NDArray[np.float32]]
    rule: str
    is_tuned_on_valid: bool

    @property
    def best_split(self) -> str:
        """The split that the report shows: the test split, or the validation split if there is none."""
        return "test" if "test" in self.evaluations else "valid"


def judge(
    model: keras.Model,
    extraction: Extraction,
    recipe: Recipe,
    held_out: npt.NDArray[np.float64] | None = None,
    kept: npt.NDArray[np.int64] | None = None,
) -> Outcome:
    """Calibrates a classifier on clips that it has not learned from and measures it on all splits.

    The calibration is folded into the last layer of the model, so every export of it is calibrated.

    Args:
        model: The classifier; its layer ``logits`` is changed.
        extraction: Features of all clips.
        recipe: Its decision section applies.
        held_out: Probabilities of violence of the clips of the training split, ``float64[N]``, each from a classifier
            that has not learned from its source. With them, calibration and threshold are fitted on these clips; the
            validation split, on which they are fitted otherwise, then chooses nothing.
        kept: Numbers of the clips of the training split that ``held_out`` belongs to; all of them if left out.

    Returns:
        The figures.
    """
    dataset = extraction.dataset
    uncalibrated = _scores(model, extraction)
    chooser, scores = ("valid", uncalibrated["valid"]) if held_out is None else ("train", held_out)
    clips = dataset.of(chooser)
    if held_out is not None and kept is not None:
        clips = tuple(clips[number] for number in kept)
    calibration = fit_calibration(_labels(clips), scores)
    layer: Any = model.get_layer("logits")
    kernel, bias = layer.get_weights()
    raised = bias + np.array((0, calibration.bias))
    layer.set_weights([kernel / calibration.temperature, raised / calibration.temperature])
    probabilities = {split: calibration.apply(scores) for split, scores in uncalibrated.items()}
    threshold, stability = _threshold(clips, calibration.apply(scores), recipe.decision)
    return Outcome(
        calibration=calibration,
        threshold=threshold,
        stability=stability,
        evaluations=_evaluations(dataset, probabilities, threshold),
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        rule=recipe.decision.rule() if held_out is None else recipe.decision.rule(_HELD_OUT),
        is_tuned_on_valid=held_out is None,
    )


def judge_calibrated(model: keras.Model, extraction: Extraction, decision: DecisionSection) -> Outcome:
    """Choose the threshold of a classifier that is calibrated, and measure it on all splits.

    Args:
        model: The classifier, for example an ensemble of calibrated ones.
        extraction: Features of all clips.
        decision: The rule, which is applied to the validation split.
    """
    dataset, uncalibrated = extraction.dataset, _scores(model, extraction)
    probabilities = {split: scores.astype(np.float64) for split, scores in uncalibrated.items()}
    threshold, stability = _threshold(dataset.of("valid"), probabilities["valid"], decision)
    return Outcome(
        calibration=Calibration(),
        threshold=threshold,
        stability=stability,
        evaluations=_evaluations(dataset, probabilities, threshold),
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        rule=decision.rule(),
        is_tuned_on_valid=True,
    )


def _scores(model: keras.Model, extraction: Extraction) -> dict[str, npt.NDArray[np.float32]]:
    return {split: predict(model, extraction.of(split))[:, 1] for split in extraction.dataset.counts()}


def _labels(clips: Sequence[LabelledClip]) -> npt.NDArray[np.int64]:
    return np.array([clip.label for clip in clips], np.int64)


def _threshold(
    clips: Sequence[LabelledClip], probabilities: npt.NDArray[np.float64], decision: DecisionSection
) -> tuple[float, StableThreshold | None]:
    return decision_threshold(_labels(clips), probabilities, [clip.group for clip in clips], decision)


def _evaluations(
    dataset: Dataset, probabilities: dict[str, npt.NDArray[np.float64]], threshold: float
) -> dict[str, Evaluation]:
    return {
        split: evaluate(_labels(dataset.of(split)), scores, threshold=threshold, groups=_groups(dataset.of(split)))
        for split, scores in probabilities.items()
    }


def mistakes(outcome: Outcome, dataset: Dataset, recipe: Recipe) -> list[Mistake]:
    """Decodes the frames of the most confident errors of `Outcome.best_split`."""
    clips = dataset.of(outcome.best_split)
    wrong = [
        (abs(probability - outcome.threshold), clip, float(probability))
        for clip, probability in zip(clips, outcome.probabilities[outcome.best_split], strict=True)
        if (probability >= outcome.threshold) != bool(clip.label)
    ]
    wrong.sort(key=lambda entry: -entry[0])
    return _with_frames([entry[1:] for entry in wrong[:_CLIPS_SHOWN]], dataset, recipe)


def suspicious_clips(audit: LabelAudit, dataset: Dataset, recipe: Recipe) -> list[Mistake]:
    """Decodes the frames of the training clips whose labels are most probably wrong."""
    clips = dataset.of("train")
    found = [(clips[number], float(audit.probabilities[number])) for number in audit.suspicious[:_CLIPS_SHOWN]]
    return _with_frames(found, dataset, recipe)


def _with_frames(clips: Sequence[tuple[LabelledClip, float]], dataset: Dataset, recipe: Recipe) -> list[Mistake]:
    """Clips with their probabilities and frames; those that cannot be decoded any more are left out."""
    shown: list[Mistake] = []
    for clip, probability in clips:
        try:
            frames = decode_clip(dataset.absolute(clip), recipe.clip_spec).frames
        except ClipError:
            continue
        shown.append((clip.path, clip.label, probability, frames))
    return shown


def decision_threshold(
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    groups: Sequence[str],
    section: DecisionSection,
) -> tuple[float, StableThreshold | None]:
    """Choose the threshold by the rule of a recipe.

    Args:
        labels: ``int64[N]`` of clips that were not learned from.
        probabilities: Of violence, calibrated, ``float64[N]``.
        groups: The source of each clip, empty where it is not known.
        section: The rule.

    Returns:
        The threshold, and how far it can be relied on where the rule tells.

    Raises:
        DatasetError: The clips do not allow the rule.
    """
    if not isinstance(section.threshold, str):
        return section.threshold, None
    false_alarm, miss = section.cost_false_alarm, section.cost_miss
    if section.threshold == "stable":
        stable = choose_stable_threshold(
            labels, probabilities, groups=groups, cost_false_alarm=false_alarm, cost_miss=miss
        )
        return stable.threshold, stable
    found = choose_threshold(
        labels,
        probabilities,
        by=section.threshold,
        recall_floor=section.recall_floor,
        cost_false_alarm=false_alarm,
        cost_miss=miss,
    )
    return found, None


def _groups(clips: Sequence[LabelledClip]) -> list[str] | None:
    groups = [clip.group for clip in clips]
    return groups if any(groups) else None
