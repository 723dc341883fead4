"""The inputs of the corpus: what each is called, how it is made and what is to come out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from testing.corpus.tools import ffmpeg

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["CorpusInput", "Turn", "transcoded"]

Turn = Callable[["npt.NDArray[np.uint8]"], "npt.NDArray[np.uint8]"]
"""How a stored picture is to be shown."""

Maker = Callable[[Path, Path], None]
"""Writes an input: called with the folder of intermediate files and the path to write."""


@dataclasses.dataclass(frozen=True)
class CorpusInput:
    """One file of the corpus.

    Attributes:
        kind: What it is an example of.
        name: File name, unique, with the suffix that people use.
        make: Writes it.
        error: What the decoder has to say instead of frames, as a part of its reason.
        warning: What the decoder has to warn about, as a part of the sentence; without it, no warning is right.
        may_warn: Whether a warning is right but not necessary.
        turn: How stored pictures are to be shown, where the display matrix says so.
        fewer_frames: How many frames of the ``ffmpeg`` program's may be left out, with a warning: damaged ones, which
            it completes with what the memory held before.
    """

    kind: str
    name: str
    make: Maker
    error: str = ""
    warning: str = ""
    may_warn: bool = False
    turn: Turn | None = None
    fewer_frames: int = 0


def transcoded(kind: str, name: str, arguments: str, **expected: object) -> CorpusInput:
    """An input that one call of ``ffmpeg`` writes.

    Args:
        kind: What it is an example of.
        name: File name.
        arguments: Of ``ffmpeg``, separated by spaces; ``SOURCE`` is the usual moving picture without loss, 96 x 64
            pixels, 30 frames at 25 a second; the output follows.
        expected: Further fields of `CorpusInput`.
    """

    def make(folder: Path, path: Path) -> None:
        ffmpeg(*(part.replace("FOLDER", str(folder)) for part in _expand(arguments, folder)), path)

    return CorpusInput(kind, name, make, **expected)  # type: ignore[arg-type]


def _expand(arguments: str, folder: Path) -> Iterator[str]:
    for part in arguments.split():
        if part == "SOURCE":
            yield from ("-i", str(folder / "source.nut"))
        elif part == "LONG":
            yield from ("-i", str(folder / "long.mp4"))
        elif part == "SOUND":
            yield from ("-f", "lavfi", "-i", "sine=d=4")
        else:
            yield part
