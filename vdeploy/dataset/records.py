"""What a data set is once it was read: its clips, and what was left out of it."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

from vdeploy.core.errors import DatasetError
from vdeploy.core.files import write_text
from vdeploy.dataset.table import COLUMNS, read_table

__all__ = ["SPLITS", "Dataset", "LabelledClip", "Problem"]

SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class LabelledClip:
    """One video file and what is known about it.

    Attributes:
        path: POSIX path relative to the data set's root; absolute if the file lies elsewhere.
        label: 0 for non-violent, 1 for violent.
        split: ``"train"``, ``"valid"``, ``"test"``, or ``""`` if none was assigned.
        group: What the clip was cut from; clips of one group stay in one split. ``""`` for none.
        sha256: SHA-256 of the file's bytes, 64 hex digits.
    """

    path: str
    label: int
    split: str
    group: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Problem:
    """A file that was left out of the data set.

    Attributes:
        path: The file, as in `LabelledClip.path`.
        reason: Why, for example ``"is empty"``.
    """

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled clips, sorted by path.

    Attributes:
        root: The folder that the clips' paths are relative to.
        clips: The usable clips.
        classes: The user's names of label 0 and label 1; several names of one label are joined by ``+``.
        given_splits: Whether the splits came with the data; otherwise they were drawn.
        problems: The files that were left out.
    """

    root: Path
    clips: tuple[LabelledClip, ...]
    classes: tuple[str, str]
    given_splits: bool
    problems: tuple[Problem, ...] = ()

    def of(self, split: str) -> tuple[LabelledClip, ...]:
        """The clips of one split."""
        return tuple(clip for clip in self.clips if clip.split == split)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many clips of each class each split holds, as ``{split: {class: clips}}``; empty splits are left out."""
        table: dict[str, dict[str, int]] = {}
        for split in (*SPLITS, ""):
            labels = [clip.label for clip in self.of(split)]
            if labels:
                table[split] = {name: labels.count(label) for label, name in enumerate(self.classes)}
        return table

    def without(self, paths: Iterable[str]) -> Dataset:
        """The same data set less the clips at these paths, for example because they cannot be decoded."""
        dropped = frozenset(paths)
        return dataclasses.replace(self, clips=tuple(clip for clip in self.clips if clip.path not in dropped))

    def absolute(self, clip: LabelledClip) -> Path:
        """The file of a clip."""
        return (self.root / clip.path).absolute()

    def write_csv(self, path: Path) -> None:
        """Writes the clips as a CSV with the columns path, label (0 or 1), split, group and sha256."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(dataclasses.astuple(clip) for clip in self.clips)
        write_text(path, text.getvalue())

    @classmethod
    def read_csv(
        cls, path: Path, *, root: Path | None = None, classes: tuple[str, str] = ("non-violent", "violent")
    ) -> Dataset:
        """Reads what `write_csv` wrote, without opening any clip.

        Args:
            path: The CSV.
            root: The folder that its paths are relative to; ``None`` for the CSV's own folder.
            classes: Names of label 0 and label 1, which the CSV does not hold.

        Raises:
            DatasetError: The CSV cannot be read or was not written by `write_csv`.
        """
        clips = []
        for row in read_table(path):
            if row.label not in ("0", "1") or not row.sha256:
                raise DatasetError(
                    f"{path}, line {row.line}: needs a label 0 or 1 and a sha256", "scan the clips again to make it"
                )
            clips.append(LabelledClip(row.path, int(row.label), row.split, row.group, row.sha256))
        return cls(root=root or path.parent, clips=tuple(clips), classes=classes, given_splits=True)
