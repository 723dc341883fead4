"""Groups of options that several commands share, each declared once as a dataclass."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["expand_groups"]


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces each dataclass parameter of a command by one option per field.

    Typer reads one option from each parameter of a command's signature. The returned command has the signature with
    the fields in place of the dataclass; it collects their values into the dataclass and calls the original.

    Args:
        command: A function whose parameters are annotated for Typer, or with a dataclass whose fields are.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Limits:
        ...     low: int = 1
        ...     high: int = 9
        >>> def show(limits: Limits) -> None:
        ...     print(limits.low, limits.high)
        >>> expand_groups(show)(high=5)
        1 5
    """
    hints = _hints(command)
    groups = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind) and isinstance(kind, type)}
    parameters = list(_expanded(command, hints, groups))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            fields = [field.name for field in dataclasses.fields(group) if field.name in values]
            values[name] = group(**{field: values.pop(field) for field in fields})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _hints(command: Callable[..., None]) -> dict[str, Any]:
    """The annotations of a command, evaluated, with their `typer.Option`.

    They are read as those of a class: until Python 3.11, `get_type_hints` makes a parameter of a function whose default
    is ``None`` optional, around its annotation, where Typer does not find the option any more.
    """
    holder = type(command.__name__, (), {"__annotations__": command.__annotations__})
    return typing.get_type_hints(holder, globalns=command.__globals__, include_extras=True)


def _expanded(
    command: Callable[..., None], hints: dict[str, Any], groups: dict[str, type]
) -> Iterator[inspect.Parameter]:
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            yield parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name])
            continue
        fields = typing.get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            default = parameter.empty if field.default is dataclasses.MISSING else field.default
            yield inspect.Parameter(field.name, parameter.KEYWORD_ONLY, default=default, annotation=fields[field.name])
