"""Which runs can be members of one ensemble, and the backbone that they have together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.recipe import Recipe, recipe_of_run
from training.recipe_methods import NO_FINE_TUNING
from training.report.run_folder import write_backbone
from vdeploy.artifacts.run import CLIPS, Run
from vdeploy.core.errors import RunError
from vdeploy.dataset import Dataset
from vdeploy.models.backbones.combined import Combined, CombinedSettings
from vdeploy.models.weights.find import Weights

__all__ = ["JointBackbone", "check_members", "joint_backbone"]


@dataclasses.dataclass(frozen=True)
class JointBackbone:
    """The backbone of an ensemble.

    Attributes:
        recipe: That of the first member, with the ensemble's backbone and clips.
        weights: The backbone's weights.
        inputs: Which features each member takes; empty where they share one backbone. See
            `vdeploy.models.heads.ensemble.EnsembleSettings`.
    """

    recipe: Recipe
    weights: Weights
    inputs: tuple[tuple[int, int, int], ...] = ()


def check_members(runs: Sequence[Run]) -> None:
    """Check that runs can be members of one ensemble.

    Raises:
        RunError: They cannot.
    """
    if len(runs) < 2:
        raise RunError("an ensemble needs at least two runs", "give more runs, or see: vdeploy train --seeds")
    for run in runs:
        if run.info.members:
            raise RunError(f"{run.root} is an ensemble itself", "give the runs that it was made of")
    first, hashes = runs[0], dict[str, Run]()
    for run in runs:
        if (same := hashes.setdefault(run.info.classifier_sha256, run)) is not run:
            raise RunError(f"{same.root} and {run.root} hold the same classifier", "give each run once")
        _check_alike(first, run)
        _check_splits(first, run)
    most = max(runs, key=lambda run: run.spec.frames)
    for run in runs:
        if most.spec.frames % run.spec.frames:
            raise RunError(
                f"{most.root} and {run.root} cannot be one ensemble: of {most.spec.frames} frames, "
                f"{run.spec.frames} cannot be taken evenly spaced",
                "train them with clip.frames of which each divides the largest",
            )


def joint_backbone(runs: Sequence[Run], folder: Path) -> JointBackbone:
    """Put the backbones of runs together; one that several members share is computed once.

    Args:
        runs: The members, as `check_members` accepts them.
        folder: Where the weights of several backbones are written to.

    Returns:
        The backbone of the runs if they share one, else a combined one.

    Raises:
        RunError: The weights cannot be written.
        WeightsError: The weights of a member cannot be had.
    """
    recipe = recipe_of_run(runs[0].root)
    identities = [_identity(run) for run in runs]
    unique = [identities.index(identity) for identity in dict.fromkeys(identities)]
    if len(unique) == 1:
        return JointBackbone(recipe, runs[0].weights())
    branches = tuple(_branch(runs[number]) for number in unique)
    sources = ", ".join(dict.fromkeys(str(branch["weights"]) for branch in branches))
    backbone = Combined(CombinedSettings(weights=sources, branches=branches))
    recipe = recipe.varied(
        backbone=backbone.settings.model_dump(),
        clip={"frames": max(run.spec.frames for run in runs), "region": "full"},
        fine_tune=NO_FINE_TUNING,
        augment={"cutmix": 0.0},
    )
    network = backbone.join(recipe.clip_spec, [runs[number].extractor().network for number in unique])
    weights = write_backbone(folder, network, Weights(sources, None, ""))
    inputs = tuple(backbone.inputs[unique.index(identities.index(identity))] for identity in identities)
    return JointBackbone(recipe, weights, inputs)


def _branch(run: Run) -> dict[str, Any]:
    """The backbone of a run, as a branch of a combined one."""
    stage = run.info.stage("extractor")
    weights = str(stage.settings["weights"])
    tuned = " (fine-tuned)" if stage.fine_tuned_blocks else ""
    return {"name": stage.architecture, **stage.settings, "weights": f"{weights}{tuned}", "frames": run.spec.frames}


def _identity(run: Run) -> str:
    """What two runs that share a backbone have in common."""
    return repr(({**_branch(run), "weights": ""}, run.info.stage("extractor").sha256))


def _check_alike(first: Run, other: Run) -> None:
    expected, found = _shared(first), _shared(other)
    for key in dict.fromkeys((*expected, *found)):
        one, two = expected.get(key), found.get(key)
        if one != two:
            raise RunError(
                f"{first.root} and {other.root} cannot be one ensemble, {key} differs: {one} and {two}",
                "members share the size of the frames, the names of the classes and the rule of the threshold",
            )


def _shared(run: Run) -> dict[str, Any]:
    """What all members of an ensemble have in common."""
    recipe = recipe_of_run(run.root)
    return {
        **{f"clip.{key}": value for key, value in run.info.clip.items() if key != "frames"},
        "the classes": ", ".join(run.info.classes),
        **{f"decision.{key}": value for key, value in recipe.decision.model_dump().items()},
    }


def _check_splits(first: Run, other: Run) -> None:
    expected, found = (
        {clip.sha256: (clip.split, clip.label, clip.path) for clip in Dataset.read_csv(run.root / CLIPS).clips}
        for run in (first, other)
    )
    for sha256 in dict.fromkeys((*expected, *found)):
        one, two = expected.get(sha256), found.get(sha256)
        if one is None or two is None or one[:2] != two[:2]:
            places = " and ".join(
                "absent" if place is None else f"{place[0]} with label {place[1]}" for place in (one, two)
            )
            raise RunError(
                f"{first.root} and {other.root} have other clips or splits: {(one or two or ('',))[-1]} is {places}",
                "train them on the same data with the same data.seed: no member may learn what judges another",
            )
