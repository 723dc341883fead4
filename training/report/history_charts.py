"""Charts of a training by epoch, as inline SVG that follows the page's colour scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vdeploy.core.svg_charts import CALM, DASHES, MUTED, mark_point, render_svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["learning_rate_chart", "loss_chart", "score_chart"]

_SIZE = (3.0, 2.3)
"""Inches; the type size is that of the larger charts in the page's columns."""


def loss_chart(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> str:
    """Draws training (dashed) and validation loss by epoch.

    Args:
        history: Per epoch: ``epoch``, ``loss``, ``valid_loss``; a missing value leaves a gap.
        best_epoch: The epoch to mark.

    Returns:
        An ``<svg>`` element.
    """
    alt = "Line chart: training and validation loss by epoch"
    return _line_chart("loss", alt, history, best_epoch, ("valid_loss", "loss"), bottom=0)


def score_chart(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> str:
    """Draws validation accuracy (dashed) and area under the ROC curve by epoch.

    Args:
        history: Per epoch: ``epoch``, ``valid_auc``, ``valid_accuracy``; a missing value leaves a gap.
        best_epoch: The epoch to mark.

    Returns:
        An ``<svg>`` element.
    """
    alt = "Line chart: validation ROC AUC and accuracy by epoch"
    return _line_chart("score", alt, history, best_epoch, ("valid_auc", "valid_accuracy"), top=1.01)


def learning_rate_chart(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> str:
    """Draws the learning rate by epoch.

    Args:
        history: Per epoch: ``epoch``, ``learning_rate``; a missing value leaves a gap.
        best_epoch: The epoch to mark.

    Returns:
        An ``<svg>`` element.
    """
    alt = "Line chart: learning rate by epoch"
    return _line_chart("rate", alt, history, best_epoch, ("learning_rate",), digits=".3g", bottom=0)


def _line_chart(
    name: str,
    alt: str,
    history: Sequence[Mapping[str, Any]],
    best_epoch: int | None,
    keys: Sequence[str],
    digits: str | None = None,
    **limits: float,
) -> str:
    """Draws the first key as a solid line with the best epoch on it, and the second one, if any, dashed below it."""

    def draw(axes: Any) -> None:
        epochs = _column(history, "epoch")
        for key in keys[1:]:
            axes.plot(epochs, _column(history, key), color=MUTED, linestyle=DASHES)
        axes.plot(epochs, _column(history, keys[0]), color=CALM)
        axes.set_ylim(**limits)
        if digits is not None:
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:{digits}}")
        _epoch_axis(axes, history, best_epoch, keys[0])

    return render_svg(name, alt, _SIZE, draw)


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
        mark_point(axes, best_epoch, _column(best, marked)[0])
