"""Class imbalance in a training split: clips of one class are dropped until a ratio is reached."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import numpy as np

from training.engine.trainer import FeatureSplit
from vdeploy.core.errors import StudyError

__all__ = ["Imbalance", "Rare", "parse_imbalance"]

Rare = Literal["non-violent", "violent"]


@dataclasses.dataclass(frozen=True)
class Imbalance:
    """The target ratio of the classes in a training split.

    Attributes:
        frequent: Share of the class that keeps all of its clips.
        rare: Share of the class that loses clips.
        label: The label that loses clips: 0 for non-violent, 1 for violent.
    """

    frequent: float
    rare: float
    label: int

    def __str__(self) -> str:
        return f"{self.frequent:g}/{self.rare:g} with {get_args(Rare)[self.label]} clips rare"

    def apply(self, split: FeatureSplit, seed: int) -> FeatureSplit:
        """Drops clips of the rare class at random; the others keep their order.

        Args:
            split: The clips.
            seed: Seed of the random choice.

        Raises:
            StudyError: The class has too few clips for the ratio, or would have none.
        """
        members = np.flatnonzero(split.labels == self.label)
        others = len(split.labels) - len(members)
        wanted = round(others * self.rare / self.frequent)
        if not 0 < wanted <= len(members):
            raise StudyError(
                f"{others} clips of one class and {len(members)} of the other cannot be made {self} by dropping clips: "
                f"it would take {wanted}",
                "choose another ratio, or the other class: --rare",
            )
        kept = np.random.default_rng(seed).choice(members, wanted, replace=False)
        rows = np.flatnonzero((split.labels != self.label) | np.isin(np.arange(len(split.labels)), kept))
        return split.select(rows)


def parse_imbalance(ratio: str, rare: str = "non-violent") -> Imbalance:
    """Parses a ratio.

    Args:
        ratio: Shares of the frequent and of the rare class, such as ``"78/22"``.
        rare: The class that loses clips: ``"non-violent"`` or ``"violent"``.

    Raises:
        StudyError: It is not two positive numbers, the larger first, or the class is unknown.
    """
    first, _, second = ratio.partition("/")
    try:
        frequent, share = float(first), float(second)
    except ValueError:
        frequent = share = math.nan
    if not (math.isfinite(frequent) and frequent >= share > 0):
        raise StudyError(f"the ratio {ratio!r} is not of the form FREQUENT/RARE", "for example 78/22")
    if rare not in get_args(Rare):
        raise StudyError(f"there is no class {rare!r}", f"give one of: {', '.join(get_args(Rare))}")
    return Imbalance(frequent, share, get_args(Rare).index(rare))
