"""Single keys on top of a recipe: ``--set section.key=value``."""

from __future__ import annotations

from typing import Any

from training.recipe_versions import read_assignment
from vdeploy.core.errors import RecipeError
from vdeploy.core.toml import tomllib

__all__ = ["assign"]


def assign(values: dict[str, Any], assignment: str) -> None:
    """Set one key of a recipe; a backbone or a head of another name drops the keys of the one before.

    Args:
        values: The recipe's sections as they were read, which are changed.
        assignment: Such as ``"training.epochs=20"``; the value is TOML, or else a string.

    Raises:
        RecipeError: It is not of that form.
    """
    key, equals, text = assignment.partition("=")
    section, dot, name = read_assignment(key.strip()).partition(".")
    if not equals or not dot or not name:
        raise RecipeError(
            f"--set {assignment!r} is not of the form section.key=value", "for example --set training.epochs=20"
        )
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    target = values.setdefault(section, {})
    if not isinstance(target, dict):
        return
    if name == "name" and section in {"backbone", "head"} and target.get("name") != value:
        target.clear()
    target[name] = value
