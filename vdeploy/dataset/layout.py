"""Finds the videos of a folder or a CSV, and what the folder names or the lines say about them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vdeploy.core.errors import DatasetError
from vdeploy.dataset.labels import listing, split_of
from vdeploy.dataset.records import Problem
from vdeploy.dataset.table import read_table

__all__ = ["VIDEO_SUFFIXES", "Entry", "Listing", "list_csv", "list_folder"]

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)
"""Suffixes of the files that are taken for videos, in lower case."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file that is said to be a clip; nobody has opened it yet.

    Attributes:
        path: As in `LabelledClip.path`.
        class_name: The name of its class, as written.
        split: ``"train"``, ``"valid"``, ``"test"`` or ``""``.
        group: What it was cut from, or ``""``.
    """

    path: str
    class_name: str
    split: str
    group: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a data set, sorted by path, and those that have no place in it."""

    root: Path
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


def list_folder(root: Path) -> Listing:
    """Lists the videos below a folder that holds a folder for each class, or for each split with classes inside.

    Raises:
        DatasetError: The folder holds no video, or none in a class folder, or mixes splits with other folders.
    """
    problems: list[Problem] = []
    videos = sorted(_videos(root, problems))
    if not videos:
        _refuse_without_videos(root, problems)
    tops = {path.parts[0] for path in videos if len(path.parts) > 1}
    splits = {top: split for top in tops if (split := split_of(top))}
    if splits and len(splits) < len(tops):
        raise DatasetError(
            f"{root} mixes split folders ({listing(splits)}) with others ({listing(tops - splits.keys())})",
            "keep either split folders with class folders inside, or class folders only",
        )
    depth = 2 if splits else 1
    entries = []
    for path in videos:
        if len(path.parts) <= depth:
            problems.append(Problem(str(path), "lies outside the class folders"))
        else:
            entries.append(Entry(str(path), path.parts[depth - 1], splits.get(path.parts[0], ""), ""))
    if not entries:
        raise DatasetError(
            f"{root} holds videos, but no class folders" + (" inside its split folders" if splits else ""),
            "put the clips into a folder for each class, such as fight/ and normal/, or list them in a CSV",
        )
    return Listing(root, tuple(entries), tuple(problems))


def list_csv(file: Path) -> Listing:
    """Lists the clips of a CSV; their paths are relative to its folder, or absolute.

    Raises:
        DatasetError: The CSV is wrong, holds no clip, or names one twice.
    """
    root = file.parent
    lines: dict[str, int] = {}
    entries = []
    for row in read_table(file):
        path = _relative(row.path, root)
        if path in lines:
            raise DatasetError(
                f"{file}, line {row.line}: {row.path} is on line {lines[path]} already", "delete one of the lines"
            )
        lines[path] = row.line
        entries.append(Entry(path, row.label, row.split, row.group))
    if not entries:
        raise DatasetError(f"{file} holds no clips", "add a line path,label for each clip")
    return Listing(root, tuple(sorted(entries, key=lambda entry: entry.path)), ())


def _relative(written: str, root: Path) -> str:
    path = Path(os.path.normpath(written))
    if path.is_absolute() and path.is_relative_to(root.absolute()):
        path = path.relative_to(root.absolute())
    return path.as_posix()


def _videos(root: Path, problems: list[Problem]) -> Iterator[PurePosixPath]:
    """Yields the videos below a folder, following links except to a folder that the link lies in."""

    def unreadable(error: OSError) -> None:
        folder = Path(error.filename).relative_to(root).as_posix()
        problems.append(Problem(_printable(folder), f"cannot be listed ({error.strerror})"))

    ancestors: dict[str, frozenset[tuple[int, int]]] = {}
    for folder, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        above = ancestors.pop(folder, frozenset())
        folders[:] = sorted(name for name in folders if not name.startswith(".") and identity not in above)
        if identity in above:
            continue
        ancestors.update({os.path.join(folder, name): above | {identity} for name in folders})  # noqa: PTH118  os.walk's form
        below = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for name in files:
            if name.startswith(".") or Path(name).suffix.lower() not in VIDEO_SUFFIXES:
                continue
            path = below / name
            if _printable(str(path)) != str(path):
                problems.append(Problem(_printable(str(path)), "has a name that is not UTF-8"))
            else:
                yield path


def _printable(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _refuse_without_videos(root: Path, problems: list[Problem]) -> None:
    if problems:
        raise DatasetError(f"{root} holds no usable video: {problems[0].path} {problems[0].reason}")
    if not any(root.iterdir()):
        raise DatasetError(f"{root} is empty", "put a folder of videos for each class into it")
    suffixes = ", ".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
    raise DatasetError(f"{root} holds no videos", f"videos are files with one of these suffixes: {suffixes}")
