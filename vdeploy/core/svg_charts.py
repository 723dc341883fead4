"""Charts as inline SVG that follows the colour scheme of the page around them.

They are drawn by Matplotlib in placeholder colours, which become CSS variables of the page: ``--ink``, ``--muted``,
``--rule``, ``--paper``, ``--calm`` (non-violent clips and measured values), ``--alarm`` (violent) and ``--series-N``.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any

from vdeploy.core.lazy_imports import require

__all__ = [
    "ALARM",
    "CALM",
    "DASHES",
    "INK",
    "MUTED",
    "PAPER",
    "RULE",
    "SERIES",
    "mark_point",
    "printable",
    "render_svg",
]

INK = "#010101"
MUTED = "#020202"
RULE = "#030303"
PAPER = "#040404"
CALM = "#050505"
ALARM = "#060606"
SERIES = ("#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c")
"""Colours of series without a meaning; ``--series-1`` to ``--series-6``."""

DASHES = (0, (4, 3))

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    CALM: "var(--calm)",
    ALARM: "var(--alarm)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelpad": 6,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
    "ytick.major.pad": 6,
}


def mark_point(axes: Any, x: float, y: float) -> None:
    """Marks the selected point of a chart, such as the best epoch or the threshold."""
    axes.plot([x], [y], marker="o", markersize=8, color=ALARM, markeredgecolor=PAPER, clip_on=False, zorder=5)


def printable(text: str) -> str:
    """Replaces the characters that XML or a font cannot hold by the replacement character."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def render_svg(name: str, alt: str, size: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """Renders a chart.

    Args:
        name: Unique on the page; it makes the ids of the SVG unique.
        alt: Description of the chart for screen readers.
        size: Width and height in inches.
        draw: Draws on the given axes.

    Returns:
        An ``<svg>`` element.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    matplotlib: Any = require("matplotlib", extra="train", purpose="the report")
    figures: Any = require("matplotlib.figure", extra="train", purpose="the report")
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = figures.Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    view = re.search(r'viewBox="([^"]+)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    if view is None:
        raise RuntimeError("Matplotlib wrote an SVG without a viewBox")
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]+;?", "", body)
    body = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    return f'<svg class="chart" role="img" aria-label="{html.escape(alt)}" viewBox="{view[1]}">{body.strip()}'
