"""`vdeploy distill`: a student learns from a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, StoreOption, StrictOption, store_root
from vdeploy.cli.recipe_options import OverridesOption
from vdeploy.cli.train import print_run


def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="Run or bundle to learn from.")],
    out: Annotated[Path, typer.Option(help="Run folder of the student.")],
    source: Annotated[
        Path | None, typer.Argument(metavar="[DATA]", help="Labelled clips. [default: those of the teacher's run]")
    ] = None,
    student: Annotated[str, typer.Option(help="Recipe of the student: a name, or a TOML file.")] = "edge",
    unlabelled: Annotated[Path | None, typer.Option(help="Folder of clips that nobody has labelled.")] = None,
    overrides: OverridesOption = None,
    store: StoreOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Train a small model on what a trained one says of clips; an interrupted training resumes."""
    from training.methods.distillation.student import student_recipe  # noqa: PLC0415  keeps --help fast
    from training.pipeline import train  # noqa: PLC0415

    recipe, clips = student_recipe(teacher, student, source, unlabelled, overrides or ())
    print_run(train(clips, out, recipe, store_root=store_root(store), strict=strict), json=json)
