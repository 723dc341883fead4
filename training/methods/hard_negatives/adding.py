"""Windows that a person has labelled become clips, and these a part of a data set."""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from training.methods.hard_negatives.candidates import Candidate, read_candidates
from vdeploy.core.errors import ClipError, DatasetError
from vdeploy.core.files import write_text
from vdeploy.core.locks import output_locks
from vdeploy.core.progress import track
from vdeploy.core.write_check import refuse_unwritable
from vdeploy.dataset.labels import assign_labels, listing, unlabelled_names
from vdeploy.dataset.layout import Entry
from vdeploy.dataset.scanning import list_clips
from vdeploy.timeline.cutting import cut_span
from vdeploy.video.workers.remote_reader import RemoteReader

__all__ = ["CLIPS", "Addition", "add_candidates"]

CLIPS = "confirmed"
"""Folder of the clips, beside the CSV of candidates."""

_LONGEST_STEM = 60


@dataclasses.dataclass(frozen=True)
class Addition:
    """What became of the candidates.

    Attributes:
        added: How many clips of each class were added.
        unlabelled: How many lines nobody has labelled; they are left out.
        clips: How many clips the new data set holds.
    """

    added: dict[str, int]
    unlabelled: int
    clips: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)


def add_candidates(data: Path, table: Path, out: Path, *, positive: Sequence[str] = ()) -> Addition:
    """Cuts the windows that have a label to clips and writes a data set of the old clips and these.

    The clips lie in a folder beside the table; those that are there already are not cut again. Each has the group of
    its line, its source, and so never lies in another split than other clips of that group. Where the data set has
    splits, a clip joins the split of its group, and the training split if its group is new. A clip that the data set
    holds already, because it was added before, is replaced.

    Args:
        data: The data set, a folder or a CSV.
        table: The ``candidates.csv`` with labels: names of the data set's classes, or 0 and 1.
        out: The CSV to write.
        positive: Names of the classes that mean violence; empty to recognise the usual names.

    Raises:
        DatasetError: The data set or the table cannot be used, or no line has a label.
        ClipError: A video of a labelled line cannot be read.
        TimelineError: A clip cannot be written, or its video does not hold the window.
    """
    refuse_unwritable(out)
    listed = list_clips(data)
    names = {entry.class_name for entry in listed.entries}
    names -= unlabelled_names(names, positive)
    labels, _ = assign_labels(names, positive, str(data))
    rows = [(row, _class_name(table, row, labels, positive)) for row in read_candidates(table)]
    labelled = [(row, name) for row, name in rows if name]
    if not labelled:
        raise DatasetError(
            f"none of the {len(rows)} lines of {table} has a label", f"enter {listing(names)} in the column label"
        )
    folder = table.absolute().parent / CLIPS
    refuse_unwritable(folder, folder=True)
    with output_locks(folder, out, remedy="choose another --out"):
        files = _cut(folder, [row for row, _ in labelled])
        old = [dataclasses.replace(entry, path=str(listed.root.absolute() / entry.path)) for entry in listed.entries]
        split_of_group = {entry.group: entry.split for entry in old if entry.group}
        default = "train" if any(entry.split for entry in old) else ""
        new = [
            Entry(str(files[row]), name, split_of_group.get(row.group, default), row.group) for row, name in labelled
        ]
        clips = {os.path.normpath(entry.path): entry for entry in (*old, *new)}
        _write(out, clips.values())
    return Addition(
        added=dict(collections.Counter(name for _, name in labelled)),
        unlabelled=len(rows) - len(labelled),
        clips=len(clips),
    )


def _class_name(table: Path, row: Candidate, labels: dict[str, int], positive: Sequence[str]) -> str:
    """The data set's name of the class that a person has entered; empty where that says that nobody knows."""
    if not row.label or unlabelled_names({row.label, *labels}, positive) - labels.keys():
        return ""
    for name in sorted(labels):
        if name.casefold() == row.label.casefold():
            return name
    for name, label in sorted(labels.items()):
        if row.label == str(label):
            return name
    raise DatasetError(
        f"{table}, line {row.line}: unknown label {row.label}",
        f"enter {listing(labels)}, or 0 (non-violent) or 1 (violent)",
    )


def _cut(folder: Path, rows: Sequence[Candidate]) -> dict[Candidate, Path]:
    """Cuts the clips that are missing, source by source; returns the file of each line."""
    files = {row: folder / _clip_name(row) for row in rows}
    missing = sorted((row for row, file in files.items() if not file.exists()), key=lambda row: (row.path, row.start_s))
    with track("cut clips", len(missing), "clips") as step:
        for path, windows in itertools.groupby(missing, key=lambda row: row.path):
            with RemoteReader(Path(path)) as reader:
                for row in windows:
                    cut_span(reader, row.start_s, row.end_s, files[row])
                    step.advance()
    return files


def _clip_name(row: Candidate) -> str:
    """The name of a clip: another one if its source or its window is another."""
    source = Path(row.path)
    try:
        status = source.stat()
    except OSError as error:
        raise ClipError(source, f"cannot be read ({error.strerror})") from error
    identity = f"{row.path}|{status.st_size}|{status.st_mtime_ns}|{row.start_s}|{row.end_s}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return f"{source.stem[:_LONGEST_STEM]}-{round(row.start_s * 1000):08d}ms-{digest}.mp4"


def _write(out: Path, entries: Iterable[Entry]) -> None:
    """Writes a CSV with the columns path, label, split and group, sorted by path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "split", "group"))
    writer.writerows(sorted(_lines(out.absolute().parent, entries)))
    write_text(out, text.getvalue())


def _lines(root: Path, entries: Iterable[Entry]) -> Iterator[tuple[str, str, str, str]]:
    """Paths below the CSV's folder are relative to it, others absolute."""
    for entry in entries:
        path = Path(os.path.normpath(entry.path))
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        yield shown.as_posix(), entry.class_name, entry.split, entry.group
