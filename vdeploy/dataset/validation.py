"""A data set looked at closely: every clip decoded once, what is odd about it named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdeploy.core.errors import DatasetError
from vdeploy.core.progress import track
from vdeploy.dataset import Dataset, Problem, scan
from vdeploy.video.clips import Clip, ClipSpec
from vdeploy.video.workers.clips import decode_clips

__all__ = ["Inspection", "inspect_dataset"]

_LOOK = ClipSpec(size=32)
"""Frames are only looked for, not at."""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What is in a data set.

    Attributes:
        dataset: The usable clips; the others are among its problems.
        notes: Usable clips that are odd: path and what.
    """

    dataset: Dataset
    notes: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        negative, positive = self.dataset.classes
        return {
            "root": str(self.dataset.root),
            "clips": len(self.dataset.clips),
            "classes": {"non-violent": negative, "violent": positive},
            "given_splits": self.dataset.given_splits,
            "counts": self.dataset.counts(),
            "left_out": [dataclasses.asdict(problem) for problem in self.dataset.problems],
            "notes": [dataclasses.asdict(note) for note in self.notes],
        }


def inspect_dataset(
    source: Path, *, positive: Sequence[str] = (), seed: int = 0, decode: bool = True, strict: bool = False
) -> Inspection:
    """Scans a data set and, unless told otherwise, decodes every clip.

    Args:
        source: Folder or CSV of labelled clips.
        positive: Names of the class that means violence, where they are not recognised.
        seed: Seed of the splits, where the data set has none.
        decode: Whether to decode.
        strict: Refuse a data set with clips that cannot be used.

    Raises:
        DatasetError: The data set cannot be used, or with ``strict``, a clip of it cannot.
    """
    with track("scan clips", None, "files") as step:
        dataset = scan(source, positive=positive, seed=seed, on_file=lambda _done, _total: step.advance())
    problems, notes = list(dataset.problems), []
    if decode:
        paths = [dataset.absolute(clip) for clip in dataset.clips]
        with track("decode clips", len(paths), "clips") as step:
            for clip, (_, outcome) in zip(dataset.clips, decode_clips(paths, _LOOK), strict=True):
                if isinstance(outcome, Clip):
                    notes += [Problem(clip.path, warning) for warning in outcome.warnings]
                else:
                    problems.append(Problem(clip.path, outcome.reason))
                step.advance()
    if strict and problems:
        raise DatasetError(
            f"{len(problems)} clips cannot be used, the first: {problems[0].path}: {problems[0].reason}",
            "replace or remove them, or leave --strict out",
        )
    usable = dataset.without({problem.path for problem in problems})
    return Inspection(dataclasses.replace(usable, problems=tuple(problems)), tuple(notes))
