"""A data set of synthetic clips with one folder per class; an interrupted run resumes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from vdeploy.core.errors import DatasetError
from vdeploy.core.files import atomic_write, write_json
from vdeploy.core.locks import folder_lock
from vdeploy.synthetic.clip import frames_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CLASS_FOLDERS", "MANIFEST", "synthesize"]

CLASS_FOLDERS = ("non_violent", "violent")
"""Folders of the two classes, and prefixes of their clips."""

MANIFEST = "synth.json"
"""File with the parameters of the clips in a folder."""

GENERATOR = 1
"""Version of the generator; it changes when the same parameters give other clips."""

_CODEC = "mp4v"
_MOST_CLIPS = 1_000_000
_HIGHEST_SEED = 2**63 - 1
_SMALLEST = 64
_FPS = (5.0, 120.0)
_ELSEWHERE = "name another folder, or delete this one"


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The parameters of `synthesize`."""

    clips: int
    seed: int
    violent_share: float
    size: tuple[int, int]
    fps: float

    def __post_init__(self) -> None:
        if self.clips < 2:
            raise DatasetError(f"cannot make {self.clips} clips", "ask for at least 2, one for each class")
        if self.clips > _MOST_CLIPS:
            raise DatasetError(f"cannot make more than {_MOST_CLIPS} clips", "ask for fewer")
        if self.seed < 0:
            raise DatasetError(f"cannot use the seed {self.seed}", "give one that is not negative")
        if self.seed > _HIGHEST_SEED:
            raise DatasetError(f"cannot use a seed above {_HIGHEST_SEED}", "give a lower one")
        if not 0 < self.violent_share < 1:
            raise DatasetError(
                f"cannot make a share of {self.violent_share:g} of the clips violent", "give one between 0 and 1"
            )
        if any(pixels < _SMALLEST or pixels % 2 for pixels in self.size):
            raise DatasetError(
                f"cannot make clips of {self.size[0]}x{self.size[1]} pixels",
                f"give an even width and height of at least {_SMALLEST}",
            )
        if not _FPS[0] <= self.fps <= _FPS[1]:
            raise DatasetError(f"cannot make clips of {self.fps:g} frames a second", f"give {_FPS[0]:g} to {_FPS[1]:g}")
        if len({self.is_violent(index) for index in range(self.clips)}) < 2:
            raise DatasetError(
                f"a share of {self.violent_share:g} of {self.clips} clips leaves one class without any",
                "ask for more clips or a share nearer to 0.5",
            )

    def is_violent(self, index: int) -> bool:
        """Distributes the violent clips evenly."""
        return _rounded((index + 1) * self.violent_share) > _rounded(index * self.violent_share)

    def path(self, index: int) -> Path:
        """Path of a clip, relative to the root."""
        folder = CLASS_FOLDERS[self.is_violent(index)]
        return Path(folder) / f"{folder}_{index:04d}.mp4"

    def manifest(self) -> dict[str, Any]:
        """Returns the plan as JSON-ready values."""
        return {"generator": GENERATOR, **dataclasses.asdict(self), "size": list(self.size), "codec": _CODEC}


def synthesize(
    root: Path,
    *,
    clips: int = 96,
    seed: int = 0,
    violent_share: float = 0.5,
    size: tuple[int, int] = (320, 240),
    fps: float = 25.0,
    workers: int | None = None,
    on_clip: Callable[[], None] | None = None,
) -> list[Path]:
    """Renders a labelled data set of drawn people: ``violent/*.mp4`` and ``non_violent/*.mp4``.

    Existing clips of the same call are kept.

    Args:
        root: The folder to create.
        clips: Number of clips of both classes, at least 2.
        seed: Clip number i is the same for the same seed and class, however many clips or workers there are.
        violent_share: Share of violent clips, between 0 and 1.
        size: Width and height in pixels, even numbers from 64 on.
        fps: Frames a second, 5 to 120; a clip lasts 1.6 to 2.4 seconds.
        workers: Clips rendered at a time; by default the number of processors.
        on_clip: Called after each clip, including existing ones.

    Returns:
        The clips in the order of their numbers.

    Raises:
        DatasetError: An argument is out of range, the folder holds something else, or it cannot be written.
        LockedError: Another process writes there.

    Example:
        >>> paths = synthesize(Path("clips"), clips=8)  # doctest: +SKIP
        >>> paths[0]  # doctest: +SKIP
        PosixPath('clips/violent/violent_0000.mp4')
    """
    plan = _Plan(clips, seed, violent_share, size, fps)
    workers = workers or os.cpu_count() or 1
    if workers < 1:
        raise DatasetError(f"cannot draw {workers} clips at a time", "give at least 1 worker")
    try:
        with folder_lock(root, "name another folder"):
            _claim(root, plan)
            _fill(root, plan, workers, on_clip or _nothing)
    except OSError as error:
        where = error.filename or root
        raise DatasetError(f"cannot write {where}: {error.strerror or error}", "name another folder") from error
    return [root / plan.path(index) for index in range(clips)]


def _nothing() -> None:
    """Ignores a clip."""


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def _claim(root: Path, plan: _Plan) -> None:
    """Checks that a folder is empty or has the same plan, and writes the plan into it."""
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root} is not a folder", "name another one")
    held = _files_in(root)
    manifest = root / MANIFEST
    if manifest.is_file():
        _compare(manifest, plan)
    elif held:
        raise DatasetError(f"{root} is not empty: it holds {min(held)}, but no {MANIFEST}", _ELSEWHERE)
    if foreign := held - {Path(MANIFEST)} - {plan.path(index) for index in range(plan.clips)}:
        raise DatasetError(f"{root} holds {min(foreign)}, which is none of its clips", f"move it away, {_ELSEWHERE}")
    for folder in CLASS_FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    if not manifest.is_file():
        write_json(manifest, plan.manifest())


def _files_in(root: Path) -> set[Path]:
    """Returns the files below a folder, relative to it, without hidden ones such as those of a killed run."""
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {file for file in files if not any(part.startswith(".") for part in file.parts)}


def _compare(manifest: Path, plan: _Plan) -> None:
    try:
        found = dict(json.loads(manifest.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"{manifest} cannot be read ({error})", _ELSEWHERE) from error
    for key, value in plan.manifest().items():
        if found.get(key) != value:
            raise DatasetError(
                f"{manifest.parent} was made with {key} {found.get(key)}, not {value}",
                f"use the same parameters, {_ELSEWHERE}",
            )


def _fill(root: Path, plan: _Plan, workers: int, on_clip: Callable[[], None]) -> None:
    missing = []
    for index in range(plan.clips):
        if (root / plan.path(index)).is_file():
            on_clip()
        else:
            missing.append(index)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for made in as_completed([pool.submit(_make, root, plan, index) for index in missing]):
                made.result()
                on_clip()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make(root: Path, plan: _Plan, index: int) -> None:
    """Writes one clip atomically; OpenCV needs a temporary file with the suffix of the container."""
    with tempfile.TemporaryDirectory(prefix="vdeploy-synth-") as scratch:
        encoded = Path(scratch) / "clip.mp4"
        writer = cv2.VideoWriter(str(encoded), cv2.VideoWriter.fourcc(*_CODEC), plan.fps, plan.size)
        if not writer.isOpened():
            raise DatasetError(
                f"OpenCV cannot encode {_CODEC} video here", "install opencv-python-headless from a wheel"
            )
        for frame in frames_of(plan.seed, index, is_violent=plan.is_violent(index), size=plan.size, fps=plan.fps):
            writer.write(frame)
        writer.release()
        with atomic_write(root / plan.path(index)) as file:
            file.write(encoded.read_bytes())
