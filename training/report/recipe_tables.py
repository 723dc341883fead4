"""A recipe as tables of text for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vdeploy.core.text import setting_text

__all__ = ["recipe_tables"]


def recipe_tables(recipe: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns plain values under ``""``, then each nested table under its dotted name."""
    tables: list[tuple[str, list[tuple[str, str]]]] = []

    def collect(name: str, table: Mapping[str, Any]) -> None:
        plain = [(key, _text(value)) for key, value in table.items() if not isinstance(value, Mapping)]
        if plain:
            tables.append((name, plain))
        for key, value in table.items():
            if isinstance(value, Mapping):
                collect(f"{name}.{key}" if name else key, value)

    collect("", recipe)
    return tables


def _text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case [Mapping(), *_]:
            return setting_text(value)
        case list() | tuple():
            return ", ".join(_text(item) for item in value)
    return str(value)
