"""The recipe of a student: another recipe, taught by a run or a bundle, on the splits of that run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from training.recipe import Recipe, load_recipe
from vdeploy.artifacts.bundle import MANIFEST
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import RecipeError

__all__ = ["student_recipe"]


def student_recipe(
    teacher: Path, student: str, source: Path | None, unlabelled: Path | None, overrides: Sequence[str] = ()
) -> tuple[Recipe, Path]:
    """Make the recipe of a student.

    Args:
        teacher: Folder of a run or of a bundle.
        student: Name of a recipe, or a TOML file.
        source: Labelled clips; those of a teacher that is a run if left out.
        unlabelled: Folder of further clips.
        overrides: Changes of the recipe, ``section.key=value``.

    Returns:
        The recipe, whose splits are drawn as those of a teacher that is a run, and the labelled clips.

    Raises:
        RecipeError: A bundle does not say what clips it was trained on, or the recipe is wrong.
        RunError: The teacher is no run.
    """
    given: dict[str, object] = {"distill.teacher": str(teacher.absolute())}
    if unlabelled is not None:
        given["distill.unlabelled"] = str(unlabelled.absolute())
    if not (teacher / MANIFEST).is_file():
        info = Run.load(teacher).info
        given |= {"data.seed": info.seed, "data.split": info.split, "data.positive": info.positive}
        source = source or Path(info.source)
    elif source is None:
        raise RecipeError(f"{teacher} is a bundle, which does not say where its clips are", "give them after it")
    assignments = [f"{key}={json.dumps(value)}" for key, value in given.items()]
    return load_recipe(student, [*assignments, *overrides]), source
