"""Recipes of version 0.1: VGG19 stood in ``[features]`` and the LSTM in ``[model]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vdeploy.core.errors import RecipeError
from vdeploy.core.progress import say

__all__ = ["read_assignment", "read_sections"]

_RENAMED = {"features": ("backbone", "vgg19"), "model": ("head", "lstm")}


def read_sections(values: Mapping[str, Any], source: str, *, announce: bool = True) -> dict[str, Any]:
    """Convert the sections of an older recipe, and print the new spelling.

    Args:
        values: The recipe as it was read.
        source: Its name, for messages.
        announce: Whether to print the new spelling.

    Returns:
        The sections under today's names; those that are new already stay as they are.

    Raises:
        RecipeError: An old section stands beside its new one.
    """
    converted = dict(values)
    for old, (new, name) in _RENAMED.items():
        if old not in converted:
            continue
        if new in converted:
            raise RecipeError(
                f"recipe {source}: [{old}] is the old name of [{new}], and both are there", f"drop [{old}]"
            )
        section = converted.pop(old)
        if not isinstance(section, Mapping):
            raise RecipeError(f"recipe {source}: {old} is no section", f"write [{new}]")
        converted[new] = {"name": name, **section}
        if announce:
            say(f'recipe {source}: [{old}] is now [{new}] with name = "{name}"')
    return converted


def read_assignment(key: str) -> str:
    """Convert the key of a ``--set``, and print the new spelling: ``features.layer`` is ``backbone.layer``."""
    section, dot, name = key.partition(".")
    if dot and section in _RENAMED:
        new = f"{_RENAMED[section][0]}.{name}"
        say(f"--set {key} is now --set {new}")
        return new
    return key
