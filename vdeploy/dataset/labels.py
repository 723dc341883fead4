"""What the names of folders and the words in a CSV mean: classes and splits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from vdeploy.core.errors import DatasetError

__all__ = ["SPLIT_NAMES", "assign_labels", "is_usual_class", "listing", "split_of", "unlabelled_names"]

SPLIT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "train": "train",
        "training": "train",
        "valid": "valid",
        "val": "valid",
        "validation": "valid",
        "test": "test",
        "testing": "test",
    }
)
"""The split that each recognised name means."""

_VIOLENT = {"violence", "violent", "fight", "fights", "fighting", "assault", "assaults", "attack", "attacks", "brawl"}
_POSITIVE = frozenset({"1", *_VIOLENT, *(f"{word}+" for word in _VIOLENT)})
_NEGATIVE = frozenset(
    {"0", "normal", "neutral", "peace", "peaceful"}
    | {prefix + word for prefix in ("no", "non", "not") for word in _VIOLENT}
    | {f"{word}-" for word in _VIOLENT}
)
_UNLABELLED = frozenset({"?", "ignore", "nan", "na", "none", "null", "unknown", "unlabeled", "unlabelled", "unsure"})
_MINUS = str.maketrans({"\u2212": "-", "\u2010": "-", "\u2013": "-"})
_CLIPS = re.compile("(clip|video)s?$")
_LISTED = 8


def split_of(name: str) -> str | None:
    """The split that a folder or a word names, in any case; ``None`` if it names none."""
    return SPLIT_NAMES.get(name.strip().casefold())


def listing(names: Collection[str]) -> str:
    """A few sorted names, joined by commas."""
    shown = sorted(names)[:_LISTED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def is_usual_class(name: str) -> bool:
    """Whether a name is one of those that are recognised as a class, violent or not."""
    return _CLIPS.sub("", _key(name)) in _POSITIVE | _NEGATIVE


def unlabelled_names(names: Collection[str], positive: Sequence[str]) -> frozenset[str]:
    """The names that say that nobody has labelled a clip: ``unknown``, ``nan`` and the like, and -1 beside 0 and 1.

    Args:
        names: The names found in the data.
        positive: The names that the user gives a meaning; they are never unlabelled.
    """
    keys = {name: _key(name) for name in names}
    meant = {_key(name) for name in positive}
    unlabelled = _UNLABELLED | ({"-1"} if {"0", "1"} <= set(keys.values()) else set())
    return frozenset(name for name, key in keys.items() if key in unlabelled and key not in meant)


def assign_labels(
    names: Collection[str], positive: Sequence[str], where: str
) -> tuple[dict[str, int], tuple[str, str]]:
    """Decides which class names mean violence.

    Names that differ only in case, punctuation or Unicode form are the same class; a sign before a number or at the end
    of a name is no punctuation: ``-1`` is not ``1``, and ``violence-`` is not ``violence+``.

    Args:
        names: The names found in the data.
        positive: The names that mean violence; empty to recognise the usual ones.
        where: Where the names were found, for messages.

    Returns:
        The label, 0 or 1, of each name, and the class names of label 0 and label 1.

    Raises:
        DatasetError: The names do not make two classes, or are not known.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        found.setdefault(_key(name), name)
    if len(found) < 2:
        raise DatasetError(
            f"{where} holds one class only: {listing(found.values())}",
            "it needs violent and non-violent clips, such as fight/ and normal/",
        )
    keys = _chosen(found, positive, where) if positive else _recognised(found, where)
    negative = sorted(found[key] for key in found.keys() - keys)
    if not negative:
        raise DatasetError(
            f"{where} holds one class only: every class ({listing(found.values())}) is given as positive",
            "leave the non-violent ones out of --positive",
        )
    labels = {name: int(_key(name) in keys) for name in names}
    return labels, ("+".join(negative), "+".join(sorted(found[key] for key in keys)))


def _key(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().translate(_MINUS).strip()
    letters = "".join(character for character in text if character.isalnum())
    if not letters:
        return text or name
    before = "-" if text.startswith("-") and letters.isdigit() else ""
    after = text[-1] if text[-1] in "+-" else ""
    return before + letters + after


def _chosen(found: Mapping[str, str], positive: Sequence[str], where: str) -> set[str]:
    for name in positive:
        if _key(name) not in found:
            raise DatasetError(
                f"{where} has no class {name}, only {listing(found.values())}", "pass one of these as --positive NAME"
            )
    return {_key(name) for name in positive}


def _recognised(found: Mapping[str, str], where: str) -> set[str]:
    violent = {key for key in found if _CLIPS.sub("", key) in _POSITIVE}
    peaceful = {key for key in found if _CLIPS.sub("", key) in _NEGATIVE}
    if len(found) == 2 and len(violent) == 1 and len(peaceful) == 1:
        return violent
    reason = f"more than two classes ({len(found)})" if len(found) > 2 else "classes whose meaning is not clear"
    raise DatasetError(
        f"{where} holds {reason}: {listing(found.values())}",
        "say which of them means violence with --positive NAME (more than once for several); the others become the"
        " non-violent class",
    )
