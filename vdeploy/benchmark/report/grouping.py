"""What the rows of a page are told apart by: their precision, or their model where the page shows several."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from vdeploy.benchmark.record import Row
from vdeploy.benchmark.report.ranking import precision_family

__all__ = ["FAMILIES", "OTHER", "Grouping", "by_model", "by_precision"]

FAMILIES = {"fp32": 1, "fp16": 2, "bf16": 3, "int8": 4}
"""Number of the colour of each precision, from the widest type to the narrowest; all others have `OTHER`."""

OTHER = 6


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Groups of rows, and a colour for each.

    Attributes:
        noun: What a group is: ``"precision"`` or ``"model"``.
        colours: Number of the colour of each group, from 1, in their order.
        groups: The group of each row.
    """

    noun: str
    colours: Mapping[str, int]
    groups: Mapping[Row, str]

    def colour(self, row: Row) -> int:
        """Number of the colour of a row."""
        return self.colours[self.groups[row]]


def by_precision(rows: Iterable[Row]) -> Grouping:
    """Group rows by the precision of most of the artifact."""
    groups = {row: precision_family(row) for row in rows}
    used = dict.fromkeys(groups.values())
    names = [*(name for name in FAMILIES if name in used), *(name for name in used if name not in FAMILIES)]
    return Grouping("precision", {name: FAMILIES.get(name, OTHER) for name in names}, groups)


def by_model(models: Mapping[Row, str]) -> Grouping:
    """Group rows by their model.

    Args:
        models: The model of each row.
    """
    names = dict.fromkeys(models.values())
    return Grouping("model", {name: number for number, name in enumerate(names, start=1)}, models)
