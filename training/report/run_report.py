"""The report of a run: one HTML file without scripts or external assets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from training.report import history_charts
from training.report.contact_sheet import contact_sheet
from training.report.recipe_tables import recipe_tables
from training.report.training_views import ViewedClip
from vdeploy.core.files import write_text
from vdeploy.core.svg_charts import printable
from vdeploy.core.templates import percent, template_environment
from vdeploy.evaluation import charts as figure_charts
from vdeploy.evaluation.calibration import Calibration, reliability

if TYPE_CHECKING:
    from vdeploy.evaluation.metrics import Evaluation

__all__ = ["REPORT", "Mistake", "ReportData", "write_report"]

REPORT = "report.html"

Mistake = tuple[str, int, float, npt.NDArray[np.uint8]]
"""A misclassified clip: path, label, probability of the violent class, frames uint8[T, H, W, 3] in RGB."""

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_MISTAKES = 12
_MAX_GROUPS = 20
_MAX_PROBLEMS = 50
_WIDE_INTERVAL = 0.05
_VIEW_FRAMES = 3


@dataclasses.dataclass(frozen=True, eq=False)
class ReportData:
    """Content of a report. The page leaves out what is not given.

    Attributes:
        name: Name of the run.
        evaluation: Figures on the held-out clips, after ``calibration``, with the threshold that is in use.
        labels: int[N] of those clips, 1 for violent, 0 for not.
        probabilities: float[N] of the violent class, after ``calibration``.
        split: The split that these clips are: ``"valid"`` or ``"test"``.
        tuned_on_split: Whether the best epoch, the threshold or the calibration was chosen on these same clips.
        threshold_rule: How the threshold was chosen, for example ``"highest F1 on the validation split"``.
        calibration: The calibration that was applied.
        uncalibrated: float[N], the probabilities before it.
        classes: The user's names of the non-violent and the violent class.
        created: When the run ended, as text.
        counts: Clips by split, then by class name.
        problems: Clips that were left out or need attention, one line each.
        recipe: The resolved recipe: values, or tables of values.
        history: Per epoch: ``epoch``, ``loss``, ``valid_loss``, ``valid_auc``, ``valid_accuracy``, ``learning_rate``,
            ``seconds``; missing values are ``None`` or absent.
        best_epoch: The ``epoch`` whose weights were kept.
        mistakes: Misclassified clips; the twelve most confident ones are shown.
        suspicious: Training clips whose labels are probably wrong, the worst first; twelve are shown.
        suspicious_count: How many there are; ``None`` if nobody looked.
        suspicious_dropped: Whether the training left them out.
        viewed: Training clips in the views that were learned from.
        environment: Versions and devices by name.
        notes: Further remarks for the reader, a sentence or two each.
    """

    name: str
    evaluation: Evaluation
    labels: npt.ArrayLike
    probabilities: npt.ArrayLike
    split: str = "valid"
    tuned_on_split: bool = True
    threshold_rule: str = ""
    calibration: Calibration = dataclasses.field(default_factory=Calibration)
    uncalibrated: npt.ArrayLike | None = None
    classes: tuple[str, str] = ("non-violent", "violent")
    created: str = ""
    counts: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    problems: Sequence[str] = ()
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    best_epoch: int | None = None
    mistakes: Sequence[Mistake] = ()
    suspicious: Sequence[Mistake] = ()
    suspicious_count: int | None = None
    suspicious_dropped: bool = False
    viewed: Sequence[ViewedClip] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(run_dir: Path, data: ReportData) -> Path:
    """Writes ``report.html`` into a run folder, atomically.

    Args:
        run_dir: The run folder, created if necessary.
        data: Content of the report.

    Returns:
        The file.

    Raises:
        MissingExtraError: Jinja2 or Matplotlib is not installed.
    """
    path = run_dir / REPORT
    write_text(path, printable(_page(data)))
    return path


def _page(data: ReportData) -> str:
    environment = template_environment(_TEMPLATES, extra="train", purpose="the report")
    environment.filters.update(number=_number)
    after = reliability(data.labels, data.probabilities)
    before = None if data.uncalibrated is None else reliability(data.labels, data.uncalibrated)
    shown = sorted(data.mistakes, key=_confidence, reverse=True)[:_MAX_MISTAKES]
    errors = data.evaluation.confusion.fp + data.evaluation.confusion.fn
    page: str = environment.get_template("report.html.j2").render(
        data=data,
        evaluation=data.evaluation,
        split_name={"valid": "validation", "test": "test", "train": "training"}.get(data.split, data.split),
        tiles=_tiles(data),
        notes=_notes(data),
        error_before=None if before is None else before.error,
        charts=_charts(data, figure_charts.reliability_chart(after, before)),
        groups=_groups(data.evaluation),
        further_groups=max(0, len(data.evaluation.groups) - _MAX_GROUPS),
        mistakes=[(*mistake[:3], contact_sheet(mistake[3])) for mistake in shown],
        further_mistakes=max(0, errors - len(shown)),
        suspicious=[(*clip[:3], contact_sheet(clip[3])) for clip in data.suspicious[:_MAX_MISTAKES]],
        viewed=[(clip, [contact_sheet(view, _VIEW_FRAMES) for _, view in clip.views]) for clip in data.viewed],
        problems=data.problems[:_MAX_PROBLEMS],
        further_problems=max(0, len(data.problems) - _MAX_PROBLEMS),
        recipe=recipe_tables(data.recipe),
    )
    return page


@dataclasses.dataclass(frozen=True)
class _Tile:
    title: str
    value: str
    interval: str
    meaning: str


def _tiles(data: ReportData) -> list[_Tile]:
    evaluation, cells = data.evaluation, data.evaluation.confusion
    figures = [
        ("Accuracy", "accuracy", percent, f"{cells.tp + cells.tn} of {evaluation.clips} clips in the right class"),
        ("Violence found", "accuracy_violent", percent, f"{cells.tp} of {cells.tp + cells.fn} violent clips flagged"),
        (
            "False alarms avoided",
            "accuracy_non_violent",
            percent,
            f"{cells.tn} of {cells.tn + cells.fp} non-violent clips not flagged",
        ),
        ("ROC AUC", "roc_auc", _number, "how often a violent clip scores above a non-violent one"),
    ]
    tiles = []
    for title, name, show, meaning in figures:
        value = getattr(evaluation, name)
        if value is not None:
            interval = " \N{EN DASH} ".join(show(bound) for bound in evaluation.intervals.get(name, ()))
            tiles.append(_Tile(title, show(value), interval, meaning))
    return tiles


def _notes(data: ReportData) -> list[str]:
    evaluation = data.evaluation
    notes = []
    low, high = evaluation.intervals.get("accuracy", (evaluation.accuracy, evaluation.accuracy))
    if evaluation.accuracy == 1:
        highest = 1 - 0.05 ** (1 / evaluation.clips)
        notes.append(
            f"Not one of {evaluation.clips} clips was misclassified, so the interval has no width. This is no proof: "
            f"with this many clips the true error rate may still be up to {percent(highest)} (95% confidence)."
        )
    elif high - low > _WIDE_INTERVAL:
        notes.append(
            f"{evaluation.clips} clips are few: on new clips of the same kind, the accuracy may lie anywhere between "
            f"{percent(low)} and {percent(high)}. More held-out clips narrow this."
        )
    if evaluation.roc_auc is None:
        notes.append("These clips are all of one class, so figures that compare the two classes are not defined.")
    if data.tuned_on_split:
        notes.append(
            "The best epoch, the threshold or the calibration was chosen on these clips, so the figures are "
            "slightly optimistic. A test split gives unbiased figures."
        )
    notes.append(
        "The figures hold for footage like this data set. They do not carry over to another camera, angle, crowd or "
        "sport: measure on your own clips before you rely on them."
    )
    notes.append(
        "A probability is an estimate, not proof. Keep a person in the loop, and base no decision about people "
        "on a score alone."
    )
    return [*notes, *data.notes]


def _charts(data: ReportData, reliability_chart: str) -> dict[str, str]:
    labels, probabilities, threshold = data.labels, data.probabilities, data.evaluation.threshold
    charts = {
        "reliability": reliability_chart,
        "histogram": figure_charts.score_histogram(labels, probabilities, threshold),
    }
    if data.evaluation.roc_auc is not None:
        charts["roc"] = figure_charts.roc_chart(labels, probabilities, threshold)
        charts["precision_recall"] = figure_charts.precision_recall_chart(labels, probabilities, threshold)
    if data.history:
        charts["loss"] = history_charts.loss_chart(data.history, data.best_epoch)
        charts["score"] = history_charts.score_chart(data.history, data.best_epoch)
        charts["learning_rate"] = history_charts.learning_rate_chart(data.history, data.best_epoch)
    return charts


def _groups(evaluation: Evaluation) -> list[tuple[str, Evaluation]]:
    """Sorts groups by accuracy, lowest first, and larger ones before smaller ones."""
    worst = sorted(evaluation.groups.items(), key=lambda item: (item[1].accuracy, -item[1].clips, item[0]))
    return worst[:_MAX_GROUPS]


def _confidence(mistake: Mistake) -> float:
    _, label, probability, _ = mistake
    return 1 - probability if label == 1 else probability


def _number(value: float | None, digits: int = 3) -> str:
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.{digits}f}"
