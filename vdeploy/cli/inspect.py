"""`vdeploy inspect`: describe a bundle, a repository or a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.options import JsonOption, print_json, print_line, print_table

if TYPE_CHECKING:
    from vdeploy.inspection.description import Description


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Bundle, model repository, engine or ONNX file.")],
    json: JsonOption = False,
) -> None:
    """Print the tensors, precision, size, hash, versions and compatibility of models."""
    from vdeploy.inspection.describe import describe  # noqa: PLC0415  keeps --help fast

    found = describe(path)
    if json:
        print_json(found.to_dict())
        return
    print_line(f"{found.kind} {found.path}")
    for name, fact in found.facts.items():
        print_line(f"  {name}: {fact}")
    shared = _shared_versions(found)
    if shared:
        print_line(f"  made with: {_versions(shared)}")
    rows = [
        (part.name, part.format, part.precision or None, f"{part.bytes / 1e6:.2f}", part.sha256[:16] or None)
        for part in found.parts
    ]
    print_table(("part", "format", "found", "MB", "sha256"), rows)
    for part in found.parts:
        own = {name: version for name, version in part.versions.items() if name not in shared}
        print_line(f"{part.name} in {part.format}{f', {_versions(own)}' if own else ''}")
        print_line(f"  takes {', '.join(map(str, part.inputs)) or 'what only its library can tell'}")
        print_line(f"  gives {', '.join(map(str, part.outputs)) or 'what only its library can tell'}")
        for refusal in part.refused:
            print_line(f"  refused by {refusal.where}: {refusal.why}; {refusal.instead}")


def _shared_versions(found: Description) -> dict[str, str]:
    """Returns the versions that all parts share, if there are several."""
    if len(found.parts) < 2:
        return {}
    first, *others = (part.versions for part in found.parts)
    return {name: version for name, version in first.items() if all(other.get(name) == version for other in others)}


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}".strip() for name, version in versions.items())
