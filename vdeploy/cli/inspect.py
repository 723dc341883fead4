"""`vdeploy inspect`: what a bundle, a repository, an engine or an ONNX file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, print_json, print_table


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Bundle, model repository, engine or ONNX file.")],
    json: JsonOption = False,
) -> None:
    """Print what is in a model: tensors, precision found, sizes, hashes, versions, and who would refuse it."""
    from vdeploy.contents.describe import describe  # noqa: PLC0415  keeps --help fast

    found = describe(path)
    if json:
        print_json(found.to_dict())
        return
    typer.echo(f"{found.kind} {found.path}")
    for name, fact in found.facts.items():
        typer.echo(f"  {name}: {fact}")
    rows = [
        (part.name, part.format, part.precision or None, f"{part.bytes / 1e6:.2f}", part.sha256[:16] or None)
        for part in found.parts
    ]
    print_table(("part", "format", "found", "MB", "sha256"), rows)
    for part in found.parts:
        typer.echo(f"{part.name} in {part.format}")
        typer.echo(f"  takes {', '.join(map(str, part.inputs)) or 'what is not told'}")
        typer.echo(f"  gives {', '.join(map(str, part.outputs)) or 'what is not told'}")
        if part.versions:
            typer.echo(f"  made with {', '.join(f'{name} {version}' for name, version in part.versions.items())}")
        for refusal in part.refused:
            typer.echo(f"  refused by {refusal.where}: {refusal.why}; {refusal.instead}")
