"""Finds the videos of a folder or a CSV, and what the folder names or the lines say about them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vdeploy.core.errors import DatasetError
from vdeploy.core.text import name_problem
from vdeploy.dataset.labels import is_usual_class, listing, split_of
from vdeploy.dataset.records import Problem
from vdeploy.dataset.table import read_table

__all__ = ["VIDEO_SUFFIXES", "Entry", "Listing", "list_csv", "list_folder", "unknown_suffix"]

_VIDEOS = (
    ".264 .265 .3g2 .3gp .amv .apng .asf .avi .dav .divx .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v"
    " .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf .nut .ogg .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv"
    " .wtv .y4m"
)
VIDEO_SUFFIXES = frozenset(_VIDEOS.split())
"""Suffixes of the files that are taken for videos, in lower case."""

_OTHERS = (
    ".aac .bak .bib .bmp .cfg .conf .csv .db .doc .docx .flac .gz .html .ini .ipynb .jpeg .jpg .json .jsonl .lnk .log"
    " .lock .m3u .mat .md .md5 .mp3 .npy .npz .odt .opus .pdf .pickle .pkl .png .ppt .pptx .py .rar .rst .sh .sha1"
    " .sha256 .srt .sub .sup .svg .tar .tfrecord .tgz .thm .tif .tiff .toml .tsv .txt .url .vtt .wav .webp .xls .xlsx"
    " .xml .yaml .yml .zip .7z"
)
_OTHER_SUFFIXES = frozenset(_OTHERS.split())
"""Suffixes of the files that often lie beside videos; they are left out without a word."""


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

    Folders around these, as archives have them, are looked through.

    Raises:
        DatasetError: The folder holds no video, or none in a class folder, or mixes splits with other folders.
    """
    problems: list[Problem] = []
    videos = sorted(_videos(root, problems))
    if not videos:
        _refuse_without_videos(root, problems)
    outer = _outer_folders(videos)
    tops = {path.parts[outer] for path in videos if len(path.parts) > outer + 1}
    splits = {top: split for top in tops if (split := split_of(top))}
    if splits and len(splits) < len(tops):
        raise DatasetError(
            f"{root} mixes split folders ({listing(splits)}) with others ({listing(tops - splits.keys())})",
            "keep either split folders with class folders inside, or class folders only",
        )
    depth = outer + (2 if splits else 1)
    entries = []
    for path in videos:
        if len(path.parts) <= depth:
            problems.append(Problem(str(path), "lies outside the class folders"))
        else:
            entries.append(Entry(str(path), path.parts[depth - 1], splits.get(path.parts[outer], ""), ""))
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


def _outer_folders(videos: Sequence[PurePosixPath]) -> int:
    """How many folders lie around those of splits or classes: single ones whose names mean nothing."""
    outer = 0
    while True:
        tops = {path.parts[outer] for path in videos if len(path.parts) > outer + 1}
        within = {path.parts[outer + 1] for path in videos if len(path.parts) > outer + 2}
        if len(tops) != 1 or not within or any(split_of(top) or is_usual_class(top) for top in tops):
            return outer
        if len(within) == 1 and not any(len(path.parts) > outer + 3 for path in videos):
            return outer
        outer += 1


def _relative(written: str, root: Path) -> str:
    if "\\" in written and not (root / written).exists():
        written = written.replace("\\", "/")
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
            path = below / name
            if reason := unknown_suffix(name):
                problems.append(Problem(_printable(str(path)), reason))
            if Path(name).suffix.lower() not in VIDEO_SUFFIXES or name.startswith("."):
                continue
            if problem := name_problem(str(path)):
                problems.append(Problem(_printable(str(path)), problem))
            else:
                yield path


def unknown_suffix(name: str) -> str:
    """Why a file among videos is left out, if its suffix is neither a video's nor that of what often lies beside them.

    Args:
        name: Name of the file.

    Returns:
        What is wrong with it; empty for videos, and for files that are left out without a word.
    """
    suffix = Path(name).suffix.lower()
    if name.startswith(".") or not suffix or suffix in _OTHER_SUFFIXES or suffix in VIDEO_SUFFIXES:
        return ""
    return f"has the suffix {_printable(suffix)}, not one of a video"


def _printable(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _refuse_without_videos(root: Path, problems: list[Problem]) -> None:
    if problems:
        raise DatasetError(f"{root} holds no usable video: {problems[0].path} {problems[0].reason}")
    if not any(root.iterdir()):
        raise DatasetError(f"{root} is empty", "put a folder of videos for each class into it")
    suffixes = ", ".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
    raise DatasetError(f"{root} holds no videos", f"videos are files with one of these suffixes: {suffixes}")
