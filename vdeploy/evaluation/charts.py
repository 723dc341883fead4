"""Charts of a detector's figures, as inline SVG that follows the page's colour scheme.

Their only text is numbers and axis names, so a user's names cannot break them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vdeploy.core.lazy_imports import require
from vdeploy.core.svg_charts import ALARM, CALM, DASHES, INK, MUTED, PAPER, mark_point, render_svg

if TYPE_CHECKING:
    from vdeploy.evaluation.calibration import Reliability

__all__ = [
    "drift_chart",
    "precision_recall_chart",
    "reliability_chart",
    "roc_chart",
    "score_histogram",
]

_SIZE = (4.9, 4.0)
"""Inches."""

_HISTOGRAM_BINS = 20


def roc_chart(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws the ROC curve and the point of the threshold.

    Args:
        labels: int[N], 1 for violent, 0 for not; both classes.
        probabilities: float[N] in [0, 1], of the violent class.
        threshold: The decision threshold.

    Returns:
        An ``<svg>`` element.
    """
    metrics: Any = require("sklearn.metrics", extra="report", purpose="the ROC curve")
    x, y, thresholds = metrics.roc_curve(labels, probabilities, drop_intermediate=False)
    chosen = int((thresholds >= threshold).sum()) - 1

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHES)
        axes.plot(x, y, color=CALM, clip_on=False)
        mark_point(axes, x[chosen], y[chosen])
        _unit_square(axes, "False-alarm rate", "Violent clips found")

    alt = f"ROC curve; at the threshold {y[chosen]:.0%} of violent clips are found, with {x[chosen]:.0%} false alarms"
    return render_svg("roc", alt, _SIZE, draw)


def precision_recall_chart(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws precision against recall and the point of the threshold.

    Args:
        labels: int[N], 1 for violent, 0 for not; both classes.
        probabilities: float[N] in [0, 1], of the violent class.
        threshold: The decision threshold.

    Returns:
        An ``<svg>`` element.
    """
    metrics: Any = require("sklearn.metrics", extra="report", purpose="the precision-recall curve")
    # From the strictest threshold to the loosest, without the last point, which no threshold gives.
    precision, recall, thresholds = metrics.precision_recall_curve(labels, probabilities)
    precision, recall = precision[-2::-1], recall[-2::-1]
    chosen = int((thresholds >= threshold).sum()) - 1

    def draw(axes: Any) -> None:
        prevalence = np.asarray(labels).mean()
        axes.plot([0, 1], [prevalence, prevalence], color=MUTED, linewidth=1, linestyle=DASHES)
        axes.step(np.append(0, recall), np.append(precision[0], precision), color=CALM, clip_on=False)
        if chosen >= 0:
            mark_point(axes, recall[chosen], precision[chosen])
        _unit_square(axes, "Violent clips found (recall)", "Flags that are right (precision)")

    alt = "Precision-recall curve"
    if chosen >= 0:
        alt += f"; at the threshold recall is {recall[chosen]:.0%} and precision {precision[chosen]:.0%}"
    return render_svg("pr", alt, _SIZE, draw)


def reliability_chart(after: Reliability, before: Reliability | None = None) -> str:
    """Draws accuracy against confidence; the area of a dot is the number of clips in its bin.

    Args:
        after: Bins of the calibrated probabilities.
        before: Bins before calibration, drawn as hollow dots.

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
    return render_svg("reliability", alt, _SIZE, draw)


def score_histogram(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws a histogram of probabilities by class: violent above the axis, non-violent below it.

    Counts are on a square-root scale, so that the few clips near the threshold remain visible.

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
    return render_svg("histogram", alt, _SIZE, draw)


def drift_chart(name: str, reference: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> str:
    """Draws the difference between a converted model's probabilities and the reference's, a dot per clip.

    Dots in the second colour mark clips with another verdict.

    Args:
        name: Name of the chart, unique on its page.
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

    alt = f"Difference of the probability by clip; {int(flipped.sum())} of {len(x)} clips have another verdict"
    return render_svg(f"drift-{name}", alt, _SIZE, draw)


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _dots(bins: Reliability) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    used = bins.counts > 0
    area = 30 + 220 * bins.counts[used] / bins.counts.max()
    return bins.confidence[used], bins.accuracy[used], area


def _signed_root(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values * np.abs(values)
