"""A CSV of labelled clips, line by line."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vdeploy.core.errors import DatasetError
from vdeploy.dataset.labels import split_of

__all__ = ["COLUMNS", "Row", "read_lines", "read_table"]

COLUMNS = ("path", "label", "split", "group", "sha256")
_REQUIRED = ("path", "label")
_COLUMNS_HINT = "the first line names the columns: path,label and optionally split,group"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the CSV; a column that the CSV lacks is ``""``.

    Attributes:
        line: Number of the line in the file, from 1.
        path: The clip, as written.
        label: A class name, ``"0"`` or ``"1"``.
        split: ``"train"``, ``"valid"``, ``"test"`` or ``""``.
        group: What the clip was cut from.
        sha256: SHA-256 that was written with it.
    """

    line: int
    path: str
    label: str
    split: str
    group: str
    sha256: str


def read_table(file: Path) -> list[Row]:
    """Reads a CSV with the columns path and label, and optionally split, group and sha256; others are ignored.

    Raises:
        DatasetError: It cannot be read, lacks a column or a value, or holds a split that is unknown or given for only
            some of the clips; the message names the line.
    """
    rows = [_row(file, line, values) for line, values in read_lines(file, _REQUIRED, _COLUMNS_HINT)]
    if any(row.split for row in rows):
        for row in rows:
            if not row.split:
                raise DatasetError(
                    f"{file}, line {row.line}: no split, while other lines have one",
                    "fill in the column for every clip, or leave it out to have the splits drawn",
                )
    return rows


def read_lines(file: Path, required: Sequence[str], hint: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a CSV whose first line names its columns; empty lines are left out.

    Args:
        file: The CSV, in UTF-8.
        required: The columns that it must have.
        hint: What to do where it lacks one.

    Yields:
        The number of each line, from 1, and its values by column, in lower case; a line may lack its last ones.

    Raises:
        DatasetError: It cannot be read or lacks a column, or a line has more values than there are columns.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            lines = csv.reader(handle, strict=True)
            header = [name.strip().casefold() for name in next(lines, [])]
            for column in required:
                if column not in header:
                    raise DatasetError(
                        f"{file} has no column {column}; its first line is: {', '.join(header) or 'empty'}", hint
                    )
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) > len(header):
                    raise DatasetError(
                        f"{file}, line {lines.line_num}: {len(cells)} values for {len(header)} columns",
                        "put a value that holds a comma between double quotes",
                    )
                yield lines.line_num, dict(zip(header, cells, strict=False))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not UTF-8 text", "save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{file} is not a well-formed CSV ({error})", "save it as CSV with commas") from error


def _row(file: Path, line: int, values: Mapping[str, str]) -> Row:
    path, *rest = (values.get(column, "") for column in COLUMNS)
    row = Row(line, path, *(value.strip() for value in rest))
    for column in _REQUIRED:
        if not values.get(column, "").strip():
            raise DatasetError(f"{file}, line {line}: no {column}", "fill it in or delete the line")
    split = split_of(row.split) if row.split else ""
    if split is None:
        raise DatasetError(f"{file}, line {line}: unknown split {row.split}", "use train, valid or test")
    return dataclasses.replace(row, split=split)
