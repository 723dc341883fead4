"""Formats text and figures for RESULTS.md."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

__all__ = ["between", "mean", "paragraph", "percent"]

_WIDTH = 120
_HELD = "\0"


def paragraph(text: str) -> str:
    """Fills a paragraph; lines break at spaces outside code."""
    held = re.sub("`[^`]*`", lambda code: code[0].replace(" ", _HELD), text)
    return textwrap.fill(held, _WIDTH, break_long_words=False, break_on_hyphens=False).replace(_HELD, " ")


def percent(share: float, digits: int = 0) -> str:
    """Formats a share of 1 in percent."""
    return f"{100 * share:.{digits}f} %"


def mean(value: dict[str, float | None] | None, digits: int = 3, *, sign: bool = False) -> str | None:
    """Formats a mean with half the width of its interval, the JSON of `confidence_intervals.Mean`; ``None`` stays."""
    if value is None or value["value"] is None:
        return None
    middle = f"{value['value']:{'+' if sign else ''}.{digits}f}"
    half = value["half_width"]
    return middle if half is None else f"{middle} ± {half:.{digits}f}"


def between(values: Iterable[str]) -> str:
    """Joins words: ``a``, ``a and b``, ``a, b and c``."""
    *most, last = values
    return f"{', '.join(most)} and {last}" if most else last
