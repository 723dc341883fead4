"""Makes long videos with known events from labelled clips: calm clips, then a fight, in turns."""

from __future__ import annotations

import argparse
import contextlib
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.output import add_output_options
from vdeploy.core.errors import DatasetError
from vdeploy.core.files import staging_folder
from vdeploy.dataset import LabelledClip, scan
from vdeploy.synthetic import synthesize
from vdeploy.timeline.writing import FrameWriter, open_writer
from vdeploy.video.reader import VideoReader

__all__ = ["Montage", "labelled_clips", "make_montage", "montage_parser"]

CALM_CLIPS = (4, 12)
"""Calm clips between two fights, from and to."""

FIGHT_CLIPS = (1, 4)
"""Clips of a fight."""


class Montage(NamedTuple):
    """A long video.

    Attributes:
        path: Its file.
        fights: From when to when a fight is shown, in seconds.
        duration_s: How long it is.
    """

    path: Path
    fights: tuple[tuple[float, float], ...]
    duration_s: float


def labelled_clips(folder: Path | None, split: str, scratch: Path) -> dict[int, list[Path]]:
    """Clips by label, 1 for a fight.

    Args:
        folder: A data set; generated clips if left out.
        split: Its split.
        scratch: Where clips are generated.
    """
    if folder is None:
        folder, split = scratch / "clips", "all"
        synthesize(folder, clips=40)
    dataset = scan(folder)
    chosen: Sequence[LabelledClip] = dataset.clips if split == "all" else dataset.of(split)
    found = {label: [dataset.absolute(clip) for clip in chosen if clip.label == label] for label in (0, 1)}
    if not all(found.values()):
        raise DatasetError(f"the {split} split of {folder} lacks clips of a class", "choose another")
    return found


def make_montage(clips: dict[int, list[Path]], minutes: float, seed: int, path: Path) -> Montage:
    """Puts clips together; the same for the same seed and clips.

    Args:
        clips: By label, 1 for a fight; all of one size and frame rate.
        minutes: Length of the video, to the precision of a clip.
        seed: Of the order.
        path: An MP4 file to write.
    """
    chance = random.Random(seed)  # noqa: S311
    with VideoReader(clips[0][0], threading.Event()) as first:
        fps, width, height = first.fps, first.width, first.height
    frames, fights = 0, []
    with contextlib.ExitStack() as stack:
        staged = stack.enter_context(staging_folder(path)) / path.name
        with open_writer(staged, fps, width, height) as writer:
            while frames < minutes * 60 * fps:
                for label, (fewest, most) in ((0, CALM_CLIPS), (1, FIGHT_CLIPS)):
                    start = frames
                    for clip in chance.choices(clips[label], k=chance.randint(fewest, most)):
                        frames += _append(clip, writer)
                    if label:
                        fights.append((start / fps, frames / fps))
        staged.replace(path)
    return Montage(path, tuple(fights), frames / fps)


def _append(clip: Path, writer: FrameWriter) -> int:
    count = 0
    for picture in _pictures(clip):
        writer.write(picture)
        count += 1
    return count


def _pictures(clip: Path) -> Iterator[npt.NDArray[np.uint8]]:
    with VideoReader(clip, threading.Event()) as reader:
        while reader.grab():
            yield reader.picture()


def montage_parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with what every benchmark on such videos takes.

    Args:
        description: The benchmark's docstring.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("clips", nargs="?", type=Path, metavar="CLIPS", help="labelled clips; generated if left out")
    parser.add_argument("--bundle", type=Path, required=True, help="what scores; one for small frames runs in minutes")
    parser.add_argument("--format", help="format of the bundle")
    parser.add_argument("--split", default="valid", help="which clips (%(default)s)")
    add_output_options(parser)
    return parser
