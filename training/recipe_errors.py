"""What is wrong with a recipe, in one line that names the key and, where there is one, the key that was meant."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from vdeploy.core.errors import RecipeError
from vdeploy.core.text import suggestion

__all__ = ["first_message", "recipe_error"]

_EVERY_KEY = "see training/recipes/default.toml"


def recipe_error(error: ValidationError, source: str, recipe_type: type[BaseModel]) -> RecipeError:
    """Convert the first of the errors that a validation has found.

    Args:
        error: What pydantic raised.
        source: Name of the recipe.
        recipe_type: The class with the known sections.
    """
    first, message = error.errors()[0], first_message(error)
    path = [str(part) for part in first["loc"]]
    if not path:
        return RecipeError(f"recipe {source}: {message}", _EVERY_KEY)
    key = ".".join(path[:2])
    if first["type"] != "extra_forbidden":
        return RecipeError(f"recipe {source}: {key}: {message}, got {first['input']!r}", _EVERY_KEY)
    section = recipe_type.model_fields.get(path[0])
    known = recipe_type.model_fields
    if section and len(path) > 1:
        known = getattr(section.annotation, "model_fields", {})
    return RecipeError(
        f"recipe {source}: unknown key {key}{suggestion(path[-1], known)}", f"known here: {', '.join(known)}"
    )


def first_message(error: ValidationError) -> str:
    """The first thing that a validation has found, in words, without the name of a key."""
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
