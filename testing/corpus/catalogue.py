"""The whole corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from testing.corpus.arrangement import arrangement_inputs
from testing.corpus.damage import damaged_inputs
from testing.corpus.formats import format_inputs
from testing.corpus.inputs import CorpusInput
from testing.corpus.interlaced import interlaced_inputs
from testing.corpus.timing import timing_inputs
from testing.corpus.tools import ffmpeg

__all__ = ["corpus_inputs", "write_intermediates"]

_MOVING = "testsrc2=s={size}:r=25:d={seconds}"


def corpus_inputs() -> Iterator[CorpusInput]:
    """Yields every input of the corpus."""
    yield from interlaced_inputs()
    yield from timing_inputs()
    yield from arrangement_inputs()
    yield from format_inputs()
    yield from damaged_inputs()


def write_intermediates(folder: Path) -> None:
    """Writes what inputs are made from: the moving picture without loss, a long video with few key frames, a cover."""
    moving = ["-f", "lavfi", "-i", _MOVING.format(size="96x64", seconds=1.2)]
    ffmpeg(*moving, "-c:v", "ffv1", "-pix_fmt", "yuv444p", folder / "source.nut")
    long = ["-f", "lavfi", "-i", _MOVING.format(size="96x64", seconds=10)]
    ffmpeg(*long, "-c:v", "libx264", "-g", "250", "-pix_fmt", "yuv420p", folder / "long.mp4")
    ffmpeg("-f", "lavfi", "-i", "color=red:s=96x64:d=0.04", "-frames:v", "1", folder / "cover.png")
