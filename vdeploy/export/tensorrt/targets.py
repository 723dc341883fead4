"""Which GPUs an engine is for: compute capabilities, by number or by the name of a card."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vdeploy.artifacts.file_headers.tensorrt import capability_text
from vdeploy.core.errors import ExportError

__all__ = ["choose_targets", "parse_targets"]

_NUMBER = re.compile(r"(?:sm[ _]?)?(\d{1,2})\.?(\d)", re.IGNORECASE)

_CARDS: tuple[tuple[str, int], ...] = (
    (r"rtx (?:pro )?\d000 blackwell|rtx 50\d0", 120),
    (r"rtx \d{4} ada|rtx 40\d0|l4|l40s?", 89),
    (r"rtx a\d{4}|rtx 30\d0|a10|a40", 86),
    (r"rtx 20\d0|t4", 75),
    (r"a100|a30", 80),
    (r"h100|h200", 90),
)
"""Cards and their compute capability (NVIDIA, "CUDA GPU Compute Capability")."""

_OLDEST_DEFAULT = 80
"""Turing, 7.5, has no float32 matrix product in `tensorrt_rtx`, so that it takes few networks; who wants it asks for
it."""


def parse_targets(text: str) -> tuple[int, ...]:
    """Reads what a user typed after ``--target-sm``.

    Args:
        text: Compute capabilities or cards, separated by commas: ``"89,8.6"``, ``"sm120"``, ``"RTX 3060, L4"``.

    Returns:
        Compute capabilities, 89 for 8.9, in the order given and without repetition.

    Raises:
        ExportError: A part of the text is neither.
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        name = " ".join(part.split())
        number = _NUMBER.fullmatch(name)
        card = next((sm for names, sm in _CARDS if re.fullmatch(f"(?:{names})(?: ti| super)*", _bare(name))), None)
        if number is None and card is None:
            raise ExportError(
                f"{name!r} is no compute capability", "give numbers such as 89 or 8.6, or a card such as 'RTX 3060'"
            )
        found[int(number[1] + number[2]) if number else card or 0] = None
    return tuple(found)


def choose_targets(wanted: Iterable[int], available: Iterable[int]) -> tuple[int, ...]:
    """Holds the wanted compute capabilities against those that the library builds for.

    Args:
        wanted: What was asked for; nothing means all from 8.0 on.
        available: What the library can do.

    Returns:
        The capabilities to build for, sorted.

    Raises:
        ExportError: The library does not build for one.
    """
    able = sorted(available)
    chosen = sorted(set(wanted)) or [value for value in able if value >= _OLDEST_DEFAULT]
    for value in chosen:
        if value not in able:
            raise ExportError(
                f"tensorrt-rtx does not build for compute capability {capability_text(value)}, "
                f"only for {capability_text(*able)}",
                "for another GPU, export to tensorrt-fp16 or tensorrt-int8 on the machine that has it",
            )
    return tuple(chosen)


def _bare(name: str) -> str:
    return re.sub(r"\b(nvidia|geforce|tesla|quadro|generation)\b", "", name.lower()).strip()
