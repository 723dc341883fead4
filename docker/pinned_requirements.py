"""Prints the requirements of some extras, with versions and hashes, for `pip install --require-hashes -r`.

    python3 pinned_requirements.py EXTRA[,EXTRA...] [PACKAGE ...]

They are a part of `requirements.txt`, which lies beside `pyproject.toml` in the working directory: what the extras
name, and what that requires by the comments in the file. It needs the standard library and pip.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib  # type: ignore[import-not-found,no-redef]

__all__ = ["Pin", "direct_requirements", "read_pins", "select"]


class Pin(NamedTuple):
    """One version of a package.

    Attributes:
        name: Normalized name.
        text: Its lines, with marker and hashes and without comments.
        required_by: Names of the packages that require it.
    """

    name: str
    text: str
    required_by: frozenset[str]


def read_pins(text: str) -> Iterator[Pin]:
    """Reads a file of requirements that ``uv pip compile --generate-hashes`` has annotated."""
    for block in re.findall(r"^[A-Za-z0-9].*(?:\n[ \t].*)*", text, re.MULTILINE):
        lines = block.splitlines()
        comments = [line.strip().removeprefix("#").strip() for line in lines if line.strip().startswith("#")]
        parents = [comment.removeprefix("via ") for comment in comments if comment != "via"]
        pinned = "\n".join(line for line in lines if not line.strip().startswith("#")).rstrip(" \\")
        name = _normalized(re.match(r"[A-Za-z0-9._-]+", block)[0])  # type: ignore[index]
        yield Pin(name, pinned, frozenset(_normalized(parent) for parent in parents))


def direct_requirements(project: dict[str, Any], extras: Iterable[str]) -> set[str]:
    """Returns the normalized names that a project requires with some extras.

    Args:
        project: The table ``project`` of its `pyproject.toml`.
        extras: Names of extras.

    Raises:
        SystemExit: The project lacks an extra.
    """
    names: set[str] = set()
    waiting, seen = list(project["dependencies"]), set(extras)
    pending = list(seen)
    while pending or waiting:
        for extra in pending:
            if extra not in project["optional-dependencies"]:
                sys.exit(f"error: {project['name']} has no extra {extra}")
            waiting += project["optional-dependencies"][extra]
        pending = []
        for requirement in waiting:
            name, own = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", requirement).groups()  # type: ignore[union-attr]
            if name != project["name"]:
                names.add(_normalized(name))
                continue
            further = {extra.strip() for extra in own.split(",")} - seen
            seen |= further
            pending += sorted(further)
        waiting = []
    return names


def select(pins: Iterable[Pin], names: set[str]) -> list[Pin]:
    """Returns the pins of some packages and of everything that these require, in the order of the file.

    Raises:
        SystemExit: A package is not in the file.
    """
    pins, selected = list(pins), set(names)
    if missing := selected - {pin.name for pin in pins}:
        sys.exit(f"error: requirements.txt lacks {', '.join(sorted(missing))}; renew it as its first lines say")
    while further := {pin.name for pin in pins if pin.required_by & selected} - selected:
        selected |= further
    return [pin for pin in pins if pin.name in selected]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    chosen = [extra.strip() for extra in sys.argv[1].split(",") if extra.strip()]
    wanted = direct_requirements(project, chosen) | {_normalized(name) for name in sys.argv[2:]}
    pinned = select(read_pins(Path("requirements.txt").read_text(encoding="utf-8")), wanted)
    sys.stdout.write("".join(f"{pin.text}\n" for pin in pinned))
