"""The report's pictures: charts as inline SVG that follows the page's colour scheme, frames as one JPEG strip.

They hold no text but numbers and axis names, so nothing a user wrote can break one.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from vdeploy.core.svg_charts import ALARM, CALM, DASHES, INK, MUTED, PAPER, render_svg
from vdeploy.evaluation.metrics import precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vdeploy.evaluation.calibration import Reliability

__all__ = [
    "contact_sheet",
    "drift_chart",
    "learning_rate_chart",
    "loss_chart",
    "precision_recall_chart",
    "reliability_chart",
    "roc_chart",
    "score_chart",
    "score_histogram",
]

_SMALL, _LARGE = (3.0, 2.3), (4.9, 4.0)
"""Inches; both come to the same type size in the page's columns."""

_HISTOGRAM_BINS = 20
_STRIP_FRAMES = 8
_FRAME_HEIGHT = 128
_FRAME_MAX_WIDTH = 228
_STRIP_MAX_BYTES = 40_000
_JPEG_QUALITIES = (82, 65, 45, 25, 10)


def loss_chart(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> str:
    """Draws training (dashed) and validation loss by epoch.

    Args:
        history: Per epoch: ``epoch``, ``loss``, ``valid_loss``; a missing value leaves a gap.
        best_epoch: The epoch to mark.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Any) -> None:
        epochs = _column(history, "epoch")
        axes.plot(epochs, _column(history, "loss"), color=MUTED, linestyle=DASHES)
        axes.plot(epochs, _column(history, "valid_loss"), color=CALM)
        axes.set_ylim(bottom=0)
        _epoch_axis(axes, history, best_epoch, "valid_loss")

    return render_svg("loss", "Line chart: training and validation loss by epoch", _SMALL, draw)


def score_chart(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> str:
    """Draws validation accuracy (dashed) and area under the ROC curve by epoch.

    Args:
        history: Per epoch: ``epoch``, ``valid_auc``, ``valid_accuracy``; a missing value leaves a gap.
        best_epoch: The epoch to mark.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Any) -> None:
        epochs = _column(history, "epoch")
        axes.plot(epochs, _column(history, "valid_accuracy"), color=MUTED, linestyle=DASHES)
        axes.plot(epochs, _column(history, "valid_auc"), color=CALM)
        axes.set_ylim(top=1.01)
        _epoch_axis(axes, history, best_epoch, "valid_auc")

    return render_svg("score", "Line chart: validation ROC AUC and accuracy by epoch", _SMALL, draw)


def learning_rate_chart(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> str:
    """Draws the learning rate by epoch.

    Args:
        history: Per epoch: ``epoch``, ``learning_rate``; a missing value leaves a gap.
        best_epoch: The epoch to mark.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Any) -> None:
        axes.plot(_column(history, "epoch"), _column(history, "learning_rate"), color=CALM)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        _epoch_axis(axes, history, best_epoch, "learning_rate")

    return render_svg("rate", "Line chart: learning rate by epoch", _SMALL, draw)


def roc_chart(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws the ROC curve and the point that the threshold picks on it.

    Args:
        labels: int[N], 1 for violent, 0 for not; both classes.
        probabilities: float[N] in [0, 1], of the violent class.
        threshold: The decision threshold.

    Returns:
        An ``<svg>`` element.
    """
    curve = roc_curve(labels, probabilities)
    chosen = int((curve.thresholds >= threshold).sum()) - 1
    x, y = curve.false_positive_rate, curve.true_positive_rate

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHES)
        axes.plot(x, y, color=CALM, clip_on=False)
        _point(axes, x[chosen], y[chosen])
        _unit_square(axes, "False-alarm rate", "Violent clips found")

    alt = f"ROC curve; at the threshold {y[chosen]:.0%} of violent clips are found, with {x[chosen]:.0%} false alarms"
    return render_svg("roc", alt, _LARGE, draw)


def precision_recall_chart(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws precision against recall and the point that the threshold picks.

    Args:
        labels: int[N], 1 for violent, 0 for not; both classes.
        probabilities: float[N] in [0, 1], of the violent class.
        threshold: The decision threshold.

    Returns:
        An ``<svg>`` element.
    """
    curve = precision_recall_curve(labels, probabilities)
    chosen = int((curve.thresholds >= threshold).sum()) - 1

    def draw(axes: Any) -> None:
        prevalence = np.asarray(labels).mean()
        axes.plot([0, 1], [prevalence, prevalence], color=MUTED, linewidth=1, linestyle=DASHES)
        axes.step(np.append(0, curve.recall), np.append(curve.precision[0], curve.precision), color=CALM, clip_on=False)
        if chosen >= 0:
            _point(axes, curve.recall[chosen], curve.precision[chosen])
        _unit_square(axes, "Violent clips found (recall)", "Flags that are right (precision)")

    alt = "Precision-recall curve"
    if chosen >= 0:
        alt += f"; at the threshold recall is {curve.recall[chosen]:.0%} and precision {curve.precision[chosen]:.0%}"
    return render_svg("pr", alt, _LARGE, draw)


def reliability_chart(after: Reliability, before: Reliability | None = None) -> str:
    """Draws accuracy against confidence; the area of a dot is the number of clips in its bin.

    Args:
        after: Bins of the probabilities that are in use.
        before: Bins before the calibration was applied, drawn as hollow dots.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Any) -> None:
        axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=1, linestyle=DASHES)
        if before is not None:
            axes.scatter(*_dots(before), facecolor="none", edgecolor=MUTED, linewidth=1.5, clip_on=False, zorder=3)
        axes.scatter(*_dots(after), facecolor=CALM, edgecolor=PAPER, linewidth=1, clip_on=False, zorder=2.5)
        _unit_square(axes, "Confidence in the predicted class", "Predictions that are right")
        axes.set_xlim(0.5, 1)

    alt = f"Reliability diagram: accuracy against confidence; expected calibration error {after.error:.3f}"
    return render_svg("reliability", alt, _LARGE, draw)


def score_histogram(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws how many clips of either class got which probability: violent above the axis, non-violent below it.

    Counts are on a square-root scale, so that the few clips near the threshold can be seen beside the many far from it.

    Args:
        labels: int[N], 1 for violent, 0 for not.
        probabilities: float[N] in [0, 1], of the violent class.
        threshold: The decision threshold, drawn as a line.

    Returns:
        An ``<svg>`` element.
    """
    violent, p = np.asarray(labels) == 1, np.asarray(probabilities, dtype=np.float64)
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    above, below = np.histogram(p[violent], edges)[0], np.histogram(p[~violent], edges)[0]
    top = 1.1 * max(above.max(), below.max(), 1)
    step = max(1, math.floor(math.sqrt(top) / 3))
    ticks = np.arange(math.floor(math.sqrt(top) / step) + 1.0) * step

    def draw(axes: Any) -> None:
        width = 0.86 / _HISTOGRAM_BINS
        centres = (edges[:-1] + edges[1:]) / 2
        for counts, colour in ((above, ALARM), (-below, CALM)):
            used = counts != 0
            axes.bar(centres[used], counts[used], width=width, color=colour)
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.axvline(threshold, color=INK, linewidth=1.5, linestyle=DASHES)
        axes.set_xlim(0, 1)
        axes.set_yscale("function", functions=(_signed_root, _signed_square))
        axes.set_ylim(-top, top)
        axes.set_yticks(_signed_square(np.concatenate([-ticks[:0:-1], ticks])))
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("Probability of violence")
        axes.set_ylabel("Clips")

    alt = f"Histogram of probabilities by class, threshold at {threshold:.2f}"
    return render_svg("histogram", alt, _LARGE, draw)


def drift_chart(name: str, reference: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws by how much a converted model's probabilities are off the reference's, a dot for each clip.

    Dots in the second colour got another verdict.

    Args:
        name: A word for the chart, unique on its page.
        reference: float[N] in [0, 1], the reference's probabilities of the violent class.
        probabilities: float[N] in [0, 1], the converted model's.
        threshold: The decision threshold, drawn as a line.

    Returns:
        An ``<svg>`` element.
    """
    x, found = np.asarray(reference, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    drift, flipped = found - x, (found >= threshold) != (x >= threshold)

    def draw(axes: Any) -> None:
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.axvline(threshold, color=INK, linewidth=1.5, linestyle=DASHES)
        for chosen, colour in ((~flipped, CALM), (flipped, ALARM)):
            axes.scatter(x[chosen], drift[chosen], s=22, facecolor=colour, edgecolor=PAPER, linewidth=0.5, zorder=3)
        limit = 1.15 * max(float(np.abs(drift).max()), 1e-6)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-limit, limit)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.2g}" if value else "0")
        axes.set_xlabel("Probability of violence, reference")
        axes.set_ylabel("Difference")

    alt = f"Difference of the probability by clip; {int(flipped.sum())} of {len(x)} clips get another verdict"
    return render_svg(f"drift-{name}", alt, _LARGE, draw)


def contact_sheet(frames: npt.NDArray[np.uint8]) -> str:
    """Puts up to eight frames of a clip, evenly spaced in time, in one row.

    Args:
        frames: uint8[T, H, W, 3] in RGB, T > 0.

    Returns:
        A JPEG of at most about 40 kB as a ``data:`` URI.
    """
    chosen = np.linspace(0, len(frames) - 1, min(_STRIP_FRAMES, len(frames))).round().astype(int)
    height, width = frames.shape[1:3]
    size = (min(max(round(_FRAME_HEIGHT * width / height), 1), _FRAME_MAX_WIDTH), _FRAME_HEIGHT)
    strip = np.hstack([cv2.resize(frames[index], size, interpolation=cv2.INTER_AREA) for index in chosen])
    jpeg = b""
    for quality in _JPEG_QUALITIES:
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        jpeg = encoded.tobytes()
        if len(jpeg) <= _STRIP_MAX_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _column(history: Sequence[Mapping[str, Any]], key: str) -> npt.NDArray[np.float64]:
    values = [row.get(key) for row in history]
    return np.array([np.nan if value is None else float(value) for value in values])


def _epoch_axis(axes: Any, history: Sequence[Mapping[str, Any]], best_epoch: int | None, marked: str) -> None:
    axes.set_xlabel("Epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(x=0.03)
    axes.grid(visible=False, axis="x")
    if len(history) == 1:
        for line in axes.lines:
            line.set_marker("o")
    best = [row for row in history if row.get("epoch") == best_epoch]
    if best_epoch is not None and best:
        axes.axvline(best_epoch, color=MUTED, linewidth=1, zorder=1)
        _point(axes, best_epoch, _column(best, marked)[0])


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _point(axes: Any, x: float, y: float) -> None:
    axes.plot([x], [y], marker="o", markersize=8, color=ALARM, markeredgecolor=PAPER, clip_on=False, zorder=5)


def _dots(bins: Reliability) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    used = bins.counts > 0
    area = 30 + 220 * bins.counts[used] / bins.counts.max()
    return bins.confidence[used], bins.accuracy[used], area


def _signed_root(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values * np.abs(values)
