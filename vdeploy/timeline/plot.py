"""A timeline as a picture: a strip of frames, the score over time, the thresholds, and the events as bands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import TimelineError
from vdeploy.core.files import atomic_write
from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.timeline.timeline import Timeline

__all__ = ["PICTURE_SUFFIXES", "check_picture", "clock", "plot_timeline"]

PICTURE_SUFFIXES = (".pdf", ".png", ".svg")

_INK, _MUTED, _RULE, _PAPER, _CALM, _ALARM = "#1c2330", "#66707f", "#d9dee6", "#ffffff", "#3b6ea8", "#c8402f"
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "svg.hashsalt": "timeline",
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}
_NICE_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_TICKS = 10
_MOST_LABELS = 12


def plot_timeline(timeline: Timeline, path: Path, strip: npt.NDArray[np.uint8] | None = None) -> None:
    """Draws a timeline.

    Args:
        timeline: What to draw.
        path: A PNG, SVG or PDF file, by its suffix.
        strip: ``uint8[N, H, W, 3]``, RGB: frames at the middles of N equal parts of the source, to show above the
            score.

    Raises:
        TimelineError: The suffix is another one.
        MissingExtraError: Matplotlib is not installed.
    """
    check_picture(path)
    matplotlib: Any = require("matplotlib", extra="report", purpose="the plot of a timeline")
    figures: Any = require("matplotlib.figure", extra="report", purpose="the plot of a timeline")
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(12, 4.6 if strip is not None else 3.6), layout="constrained", facecolor=_PAPER)
        if strip is None:
            axes = figure.add_subplot()
        else:
            film, axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (1, 3)})
            _draw_strip(film, strip, timeline.duration_s)
        _draw_scores(axes, timeline)
        _draw_events(axes, timeline)
        _draw_time(axes, timeline.duration_s)
        figure.suptitle(_title(timeline), x=0.01, ha="left", fontsize=12, fontweight="bold")
        with atomic_write(path) as file:
            figure.savefig(file, format=path.suffix.lower()[1:], dpi=150)


def check_picture(path: Path) -> None:
    """Makes sure that a timeline can be drawn, before it is made.

    Raises:
        TimelineError: The suffix is none of a picture.
        MissingExtraError: Matplotlib is not installed.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise TimelineError(f"{path} has no suffix of a picture", f"choose one of {' '.join(PICTURE_SUFFIXES)}")
    require("matplotlib", extra="report", purpose="the plot of a timeline")


def clock(seconds: float) -> str:
    """A time as people write it: ``m:ss`` or ``h:mm:ss``, with tenths where there are any."""
    tenths = round(seconds * 10)
    whole, rest = divmod(tenths, 10)
    hours, minutes, second = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
    return f"{text}.{rest}" if rest else text


def _title(timeline: Timeline) -> str:
    count = len(timeline.events)
    events = "no event" if count == 0 else "1 event" if count == 1 else f"{count} events"
    name = timeline.source.rstrip("/").rpartition("/")[2]
    return f"{name}   {clock(timeline.duration_s)}, {events}".replace("$", r"\$")


def _draw_strip(axes: Any, strip: npt.NDArray[np.uint8], duration_s: float) -> None:
    for number, frame in enumerate(strip):
        left, right = (duration_s * edge / len(strip) for edge in (number, number + 1))
        axes.imshow(frame, extent=(left, right, 0, 1), aspect="auto", interpolation="bilinear")
        axes.axvline(right, color=_PAPER, linewidth=2)
    axes.set_ylim(0, 1)
    axes.set_axis_off()


def _draw_scores(axes: Any, timeline: Timeline) -> None:
    middles = np.array([(window.start_s + window.end_s) / 2 for window in timeline.windows])
    scores = np.array([window.probability for window in timeline.windows])
    rule = timeline.rule
    axes.axhline(rule.enter, color=_ALARM, linewidth=1, linestyle=(0, (4, 3)))
    axes.axhline(rule.leave, color=_MUTED, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.fill_between(middles, scores, color=_CALM, alpha=0.15, linewidth=0)
    marker = "o" if len(middles) < 40 else ""
    axes.plot(middles, scores, color=_CALM, linewidth=1.6, marker=marker, markersize=3.5)
    for level, name in ((rule.enter, "enter"), (rule.leave, "leave")):
        axes.annotate(
            f"{name} {level:.2f}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_ALARM if name == "enter" else _MUTED,
            annotation_clip=False,
        )
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.set_ylabel("probability of violence")
    axes.grid(axis="y", color=_RULE, linewidth=0.6)


def _draw_events(axes: Any, timeline: Timeline) -> None:
    for event in timeline.events:
        axes.axvspan(event.start_s, event.end_s, color=_ALARM, alpha=0.12, linewidth=0)
        axes.plot(
            (event.start_s, event.end_s),
            (0, 0),
            color=_ALARM,
            linewidth=5,
            solid_capstyle="butt",
            clip_on=False,
            zorder=4,
        )
        axes.plot(event.peak_s, event.peak_probability, "o", color=_ALARM, markersize=6, markeredgecolor=_PAPER)
    strongest = sorted(timeline.events, key=lambda event: -event.peak_probability)[:_MOST_LABELS]
    for event in strongest:
        axes.annotate(
            clock(event.start_s),
            ((event.start_s + event.end_s) / 2, 1.06),
            ha="center",
            va="center",
            fontsize=8.5,
            fontweight="bold",
            color=_ALARM,
        )


def _draw_time(axes: Any, duration_s: float) -> None:
    fitting = [step for step in _NICE_STEPS_S if duration_s / step <= _MOST_TICKS]
    step = fitting[0] if fitting else duration_s / _MOST_TICKS
    ticks = np.arange(0, duration_s + step / 1e3, step)
    axes.set_xticks(ticks, [clock(tick) for tick in ticks])
    axes.set_xlim(0, max(duration_s, 1e-3))
    axes.set_xlabel("time")
