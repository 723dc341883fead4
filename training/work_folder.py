"""The folder that a training works in until its run is finished, and how it takes its place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.methods.distillation.lesson import Lesson
from training.methods.self_supervised.trunk import trunk_sha256
from training.recipe import Recipe
from vdeploy.artifacts.run import CLIPS
from vdeploy.core.errors import RunError
from vdeploy.core.files import publish_folder, write_text
from vdeploy.core.progress import say
from vdeploy.core.text import name_problem
from vdeploy.dataset import Dataset
from vdeploy.models.weights.find import Weights

__all__ = ["open_folder", "open_partial", "partial_folder", "publish_run", "refuse_foreign_folder"]

_FINGERPRINT = ".fingerprint"


def refuse_foreign_folder(out: Path, mark: str = CLIPS, kind: str = "run folder") -> None:
    """Refuse a folder that a run would replace although it is none, or whose name TensorFlow cannot write to.

    Args:
        out: The folder.
        mark: A file that every folder of the kind holds.
        kind: What may be replaced.

    Raises:
        RunError: It holds something else, or its name is no text.
    """
    if problem := name_problem(str(out.absolute())):
        raise RunError(f"{out} {problem}", "choose another: --out RUN")
    if out.exists() and not (out / mark).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is in the way: it is no {kind}", "choose another: --out RUN")


def partial_folder(out: Path) -> Path:
    """Where a training works until it is finished."""
    return out.with_name(f"{out.name}.partial")


def publish_run(folder: Path, out: Path) -> None:
    """Put a finished folder in its place, and keep an older run as ``OUT.previous``."""
    publish_folder(folder, out, keep_as=out.with_name(f"{out.name}.previous"))


def open_partial(
    folder: Path, recipe: Recipe, dataset: Dataset, weights: Weights, seeds: int = 1, lesson: Lesson | None = None
) -> None:
    """Make the folder to work in; it is emptied if it holds the work of another recipe or of other clips.

    Args:
        folder: The folder.
        recipe: Every choice.
        dataset: The clips.
        weights: The backbone's weights.
        seeds: Trainings that take place in it.
        lesson: What the recipe's teacher says.

    Raises:
        RunError: It cannot be written.
    """
    content = {
        "recipe": recipe.identity,
        "clips": [dataclasses.astuple(clip) for clip in dataset.clips],
        "weights": weights.sha256,
        **({"seeds": seeds} if seeds > 1 else {}),
        **({"lesson": lesson.digest} if lesson else {}),
        **({"trunk": trunk_sha256(recipe)} if recipe.pretrain.trunk else {}),
    }
    open_folder(folder, content, "train", "other clips or another recipe")


def open_folder(folder: Path, content: Mapping[str, Any], task: str, otherwise: str) -> None:
    """Make a folder to work in; it is emptied if it holds other work.

    Args:
        folder: The folder.
        content: Everything that the work depends on, JSON-ready.
        task: What works there, for the message.
        otherwise: What is different about other work, for the message.

    Raises:
        RunError: It cannot be written.
    """
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    mark = folder / _FINGERPRINT
    try:
        if folder.is_dir() and not (mark.is_file() and mark.read_text(encoding="utf-8") == fingerprint):
            say(f"{task}: {folder} holds work on {otherwise}; starting afresh")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(mark, fingerprint)
    except OSError as error:
        raise RunError(
            f"cannot write to {folder} ({error.strerror or error})", "choose another folder: --out RUN"
        ) from error
