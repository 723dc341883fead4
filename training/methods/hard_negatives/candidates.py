"""The CSV of candidates, which a person completes: one window a line."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import DatasetError
from vdeploy.core.files import write_text
from vdeploy.dataset.table import read_lines

if TYPE_CHECKING:
    from training.methods.hard_negatives.selection import MinedWindow

__all__ = ["Candidate", "keep_labelled", "read_candidates", "write_candidates"]

_REQUIRED = ("path", "start_s", "end_s", "label")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One line of the CSV.

    Attributes:
        path: The video, absolute.
        start_s: Where the window starts, in seconds from the first frame.
        end_s: Where it ends.
        score: Probability of violence that the bundle gave it; ``None`` in a line that someone added without.
        label: The class that a person has confirmed; empty until then.
        group: What the clip will have been cut from; the video.
        line: Number of its line in the file that it was read from; 0 if it was not read.
    """

    path: str
    start_s: float
    end_s: float
    score: float | None
    label: str
    group: str
    line: int = dataclasses.field(default=0, compare=False)

    @classmethod
    def of(cls, window: MinedWindow) -> Candidate:
        """The line of a window that nobody has judged yet."""
        return cls(window.path, window.start_s, window.end_s, round(window.score, 6), "", window.path)

    @property
    def window(self) -> tuple[str, float, float]:
        """What the line is about: a video, and where the window starts and ends."""
        return (self.path, self.start_s, self.end_s)


_COLUMNS = ("path", "start_s", "end_s", "score", "label", "group")


def keep_labelled(found: Iterable[Candidate], earlier: Iterable[Candidate]) -> list[Candidate]:
    """Puts what a person has entered in an earlier CSV into a new one.

    Args:
        found: The candidates of this search.
        earlier: The lines of the earlier CSV; those without a label are dropped.

    Returns:
        Labelled lines as they were, and the candidates that are not among them; the highest score first.
    """
    labelled = {row.window: row for row in earlier if row.label}
    rows = {row.window: row for row in found} | labelled
    return sorted(rows.values(), key=lambda row: (-(row.score or 0.0), row.path, row.start_s))


def write_candidates(file: Path, candidates: Iterable[Candidate]) -> None:
    """Writes the CSV atomically."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(candidate, name) for name in _COLUMNS] for candidate in candidates)
    write_text(file, text.getvalue())


def read_candidates(file: Path) -> list[Candidate]:
    """Reads the CSV, also after a spreadsheet has rearranged its columns.

    Paths are relative to the file's folder, or absolute. A line without a group has its video as group.

    Raises:
        DatasetError: It cannot be read, or lacks a column or a value; the message names the line.
    """
    hint = "give the candidates.csv that vdeploy mine wrote, saved as CSV with commas"
    rows = [_candidate(file, line, values) for line, values in read_lines(file, _REQUIRED, hint)]
    first: dict[tuple[str, float, float], int] = {}
    for row in rows:
        if (line := first.setdefault(row.window, row.line)) != row.line:
            raise DatasetError(
                f"{file}, line {row.line}: its window is on line {line} already", "delete one of the lines"
            )
    return rows


def _candidate(file: Path, line: int, values: Mapping[str, str]) -> Candidate:
    written = values.get("path", "").strip()
    if not written:
        raise DatasetError(f"{file}, line {line}: no path", "fill it in or delete the line")
    start_s, end_s = (_number(file, line, name, values.get(name, "")) for name in ("start_s", "end_s"))
    if not 0 <= start_s < end_s:
        raise DatasetError(f"{file}, line {line}: {start_s:g} to {end_s:g} s is no window", "correct the line")
    score = values.get("score", "").strip()
    path = os.path.abspath(file.parent / written)  # noqa: PTH100  resolve() would follow links
    return Candidate(
        path=path,
        start_s=start_s,
        end_s=end_s,
        score=_number(file, line, "score", score) if score else None,
        label=values.get("label", "").strip(),
        group=values.get("group", "").strip() or path,
        line=line,
    )


def _number(file: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(f"{file}, line {line}: {name} is {text.strip() or 'empty'}, no number", "correct the line")
    return value
