"""Draws the splits: stratified, seeded, and never through the middle of a group of clips that belong together."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vdeploy.dataset.records import LabelledClip

__all__ = ["draw_splits"]


@dataclasses.dataclass(frozen=True)
class _Unit:
    """Clips that must not be separated: those of one group, and byte-identical ones.

    Attributes:
        members: Indices of the clips.
        labels: How many of them each label has.
        rank: A number in hexadecimal that depends on the seed and the clips' bytes alone.
    """

    members: tuple[int, ...]
    labels: Counter[int]
    rank: str


class _Drawing:
    """Units being spread over splits, and how far each split is from its share of each label."""

    def __init__(self, units: Sequence[_Unit], shares: Mapping[str, float]) -> None:
        self.totals: Counter[int] = sum((unit.labels for unit in units), Counter())
        self.splits = tuple(shares)
        self._placed: dict[str, list[_Unit]] = {split: [] for split in shares}
        self._deficit = {(s, label): share * n for s, share in shares.items() for label, n in self.totals.items()}

    def place(self, unit: _Unit) -> None:
        """Puts a unit where it is missed most; single clips fill one split after the other, so that few move later.

        With single clips, the boundaries between the splits run through the clips in order of rank, and another clip
        in the data moves only those next to a boundary.
        """
        gains = {split: self._gain(split, unit) for split in self.splits}
        best = max(self.splits, key=gains.__getitem__)
        if len(unit.members) == 1:
            best = next((split for split in self.splits if gains[split] >= 0), best)
        self._put(unit, best, +1)

    def fill_gaps(self) -> None:
        """Moves the smallest possible unit to each split that lacks a label, where there are enough of them."""
        for split in self.splits:
            for label in sorted(self.totals):
                if self._units_with(split, label) == 0:
                    self._borrow(split, label)

    def items(self) -> Iterable[tuple[str, _Unit]]:
        """Every unit with its split."""
        return ((split, unit) for split, units in self._placed.items() for unit in units)

    def _gain(self, split: str, unit: _Unit) -> float:
        return sum(n * (self._deficit[split, label] - n / 2) / self.totals[label] for label, n in unit.labels.items())

    def _units_with(self, split: str, label: int) -> int:
        return sum(label in unit.labels for unit in self._placed[split])

    def _borrow(self, split: str, label: int) -> None:
        wanting = self.splits.index(split)
        candidates = [
            (len(unit.members), unit.rank, donor, unit)
            for donor, unit in self.items()
            if donor != split
            and label in unit.labels
            and (self.splits.index(donor) > wanting or all(self._units_with(donor, own) > 1 for own in unit.labels))
        ]
        if candidates:
            _, _, donor, unit = min(candidates, key=lambda candidate: candidate[:3])
            self._put(unit, donor, -1)
            self._put(unit, split, +1)

    def _put(self, unit: _Unit, split: str, sign: int) -> None:
        if sign > 0:
            self._placed[split].append(unit)
        else:
            self._placed[split].remove(unit)
        for label, n in unit.labels.items():
            self._deficit[split, label] -= sign * n


def draw_splits(clips: Sequence[LabelledClip], shares: Mapping[str, float], seed: int) -> list[LabelledClip]:
    """Assigns every clip to a split.

    Which split a clip gets depends on the seed and on the bytes and groups of all clips, not on their names or order.
    Every split holds both labels if each label has a group or single clip of its own for each split; with fewer, the
    splits that come first are served first.

    Args:
        clips: The clips; their own splits are ignored.
        shares: The part of the clips that each split is to get, in order of importance; they add up to 1.
        seed: Another seed gives another drawing.

    Returns:
        The clips in the same order, each with its split.
    """
    units = sorted(_units(clips, seed), key=lambda unit: (-len(unit.members), unit.rank))
    drawing = _Drawing(units, {split: share for split, share in shares.items() if share > 0})
    for unit in units:
        drawing.place(unit)
    drawing.fill_gaps()
    split_of = {member: split for split, unit in drawing.items() for member in unit.members}
    return [dataclasses.replace(clip, split=split_of[index]) for index, clip in enumerate(clips)]


def _units(clips: Sequence[LabelledClip], seed: int) -> Iterable[_Unit]:
    parents = list(range(len(clips)))

    def find(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, clip in enumerate(clips):
        keys = [("sha256", clip.sha256)] + ([("group", clip.group)] if clip.group else [])
        for key in keys:
            parents[find(index)] = find(first.setdefault(key, index))
    members: dict[int, list[int]] = {}
    for index in range(len(clips)):
        members.setdefault(find(index), []).append(index)
    for indices in members.values():
        content = min(clips[index].sha256 for index in indices)
        yield _Unit(
            members=tuple(indices),
            labels=Counter(sorted(clips[index].label for index in indices)),
            rank=hashlib.sha256(f"{seed}:{content}".encode()).hexdigest(),
        )
