"""Markdown as RESULTS.md has it: filled paragraphs and tables."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

__all__ = ["between", "mean", "paragraph", "percent", "table"]

_WIDTH = 120
_HELD = "\0"


def paragraph(text: str) -> str:
    """Text in lines that are not too long; nothing is broken but at spaces, and no code at all."""
    held = re.sub("`[^`]*`", lambda code: code[0].replace(" ", _HELD), text)
    return textwrap.fill(held, _WIDTH, break_long_words=False, break_on_hyphens=False).replace(_HELD, " ")


def percent(share: float, digits: int = 0) -> str:
    """A share of 1 in percent."""
    return f"{100 * share:.{digits}f} %"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table.

    Args:
        columns: Headings.
        rows: As many cells each; ``None`` is an empty one.
    """
    lines = [columns, ["---"] * len(columns)]
    lines += [["" if cell is None else str(cell).replace("|", "\\|") for cell in row] for row in rows]
    head, rule, *body = lines
    return "\n".join([_line(head), "|" + "|".join(rule) + "|", *map(_line, body)])


def mean(value: dict[str, float | None] | None, digits: int = 3, *, sign: bool = False) -> str | None:
    """A mean with half the width of its interval: the JSON of `confidence_intervals.Mean`; ``None`` stays."""
    if value is None or value["value"] is None:
        return None
    middle = f"{value['value']:{'+' if sign else ''}.{digits}f}"
    half = value["half_width"]
    return middle if half is None else f"{middle} ± {half:.{digits}f}"


def between(values: Iterable[str]) -> str:
    """Words in a row: ``a``, ``a and b``, ``a, b and c``."""
    *most, last = values
    return f"{', '.join(most)} and {last}" if most else last


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"
