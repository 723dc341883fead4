"""Ensembles: several trained models in one run folder.

An ensemble averages the calibrated probabilities of its members (Lakshminarayanan et al. 2017, "Simple and Scalable
Predictive Uncertainty Estimation using Deep Ensembles"). What follows a training takes it as any other run, and a
backbone that members share is computed once. Backbones that differ become one, side by side on the same frames.

The mean of calibrated probabilities lies closer to 0.5 than its members, so no threshold of theirs fits it: the
threshold is chosen anew, by the members' rule on their validation clips. That is sound only if no member has learned
from these clips, and the figures on test clips are only if none has learned from those; so all members must have the
same splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.engine.devices import is_alone, open_strategy
from training.methods.distillation.lesson import prepare_lesson
from training.methods.ensemble_members import JointBackbone, check_members, joint_backbone
from training.pipeline import (
    extract_source,
    report_problems,
    scan_source,
    train,
    train_on,
)
from training.recipe import Recipe, recipe_of_run
from training.report.evaluate_run import Outcome, judge_calibrated
from training.report.run_folder import FinishedTraining, write_run_folder
from training.work_folder import open_partial, partial_folder, publish_run, refuse_foreign_folder
from vdeploy.artifacts.run import MANIFEST, Run
from vdeploy.artifacts.run_manifest import RunMember
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.files import staging_folder
from vdeploy.core.lazy_imports import load_keras
from vdeploy.core.locks import folder_lock
from vdeploy.core.progress import say
from vdeploy.core.templates import percent
from vdeploy.export.calibration import check_clips, recorded_clips
from vdeploy.features.extraction import Extraction, extract_with, feature_key, missing_tasks
from vdeploy.features.store import FeatureStore
from vdeploy.models.heads.ensemble import member_models
from vdeploy.models.registry import ENSEMBLE
from vdeploy.video.views import USUAL_VIEW

if TYPE_CHECKING:
    import keras

__all__ = ["make_ensemble", "train_seeds"]

_MEMBERS = "members"


def make_ensemble(roots: Sequence[Path], out: Path, *, store_root: Path, data: Path | None = None) -> Run:
    """Make one run of several.

    Args:
        roots: Folders of the members.
        out: Folder of the ensemble; an older run there is kept as ``OUT.previous``.
        store_root: Folder of all feature stores; features that it lacks are extracted.
        data: Where the members' clips lie, if no longer where they were at training.

    Returns:
        The ensemble.

    Raises:
        RunError: The runs cannot be members of one ensemble.
        LockedError: Another process writes there.
        UserError: A clip has changed, or the disk is full.
    """
    runs = [Run.load(root) for root in roots]
    check_members(runs)
    if any(out.absolute() == run.root.absolute() for run in runs):
        raise RunError(f"{out} is one of the members", "choose another: --out ENSEMBLE")
    source = data or Path(runs[0].info.source)
    with folder_lock(out, "choose another --out"):
        refuse_foreign_folder(out)
        with staging_folder(out) as folder:
            joint = joint_backbone(runs, folder)
            extraction = _recorded_features(runs[0], joint, source, store_root)
            _write(folder, out.name, source, runs, joint, extraction)
            publish_run(folder, out)
    return Run.load(out)


def train_seeds(source: Path, out: Path, recipe: Recipe, seeds: int, *, store_root: Path, strict: bool = False) -> Run:
    """Train one recipe with several seeds on the same features, and make an ensemble of these runs.

    The members differ in what the seed draws in training: first weights, order of the clips and dropout. All have the
    splits of the recipe's own seed. They are trained in ``OUT.partial/members``; an interrupted training with the same
    clips, recipe and number of seeds goes on where it stopped.

    Args:
        source: The data set.
        out: The run folder.
        recipe: Every choice; its seed is that of the first member, and the next ones follow.
        seeds: Members of the ensemble; with one, the recipe is trained as it is.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read instead of leaving them out.

    Raises:
        RecipeError: The seed changes nothing in this recipe.
        LockedError: Another training writes there.
        UserError: As for `training.pipeline.train`.
    """
    if seeds == 1:
        return train(source, out, recipe, store_root=store_root, strict=strict)
    _check_seeds(recipe)
    with folder_lock(out, "choose another --out"):
        refuse_foreign_folder(out)
        strategy = open_strategy(recipe.training.devices)
        dataset, weights = scan_source(source, recipe), recipe.make_backbone().find_weights()
        extraction = extract_source(dataset, recipe, weights, store_root, strict=strict)
        report_problems(extraction)
        lesson = prepare_lesson(recipe, extraction.dataset, weights, store_root)
        folder = partial_folder(out)
        open_partial(folder, recipe, extraction.dataset, weights, seeds, lesson)
        runs = []
        for number in range(seeds):
            seed = (recipe.training.seed + number) % 2**31
            member = folder / _MEMBERS / f"seed-{seed}"
            say(f"train: member {number + 1} of {seeds}, seed {seed}")
            if not (member / MANIFEST).is_file():
                load_keras().utils.clear_session()
                seeded = recipe.varied(training={"seed": seed}, data={"seed": recipe.split_seed})
                train_on(extraction, weights, source, member, seeded, strategy, lesson)
            runs.append(Run.load(member))
        _write(folder, out.name, source, runs, JointBackbone(recipe, weights), extraction)
        publish_run(folder, out)
    return Run.load(out)


def _check_seeds(recipe: Recipe) -> None:
    if recipe.fine_tune.blocks:
        raise RecipeError(
            "--seeds computes one backbone for all members, and fine-tuning gives each seed another",
            "leave --seeds out, or set fine_tune.blocks = 0",
        )
    if recipe.solver == "logistic":
        raise RecipeError(
            "a linear head is fitted exactly, so every seed gives the same classifier",
            'leave --seeds out, or set optimizer.solver = "adamw" or another head',
        )
    if not is_alone():
        raise RecipeError(
            "--seeds trains on one machine, and TF_CONFIG names several",
            "train each seed by itself, then: vdeploy ensemble RUN RUN --out ENSEMBLE",
        )


def _recorded_features(run: Run, joint: JointBackbone, source: Path, store_root: Path) -> Extraction:
    """Features of the clips that a run remembers; those that the store lacks are extracted from the same files."""
    dataset, spec, backbone = recorded_clips(run, source), joint.recipe.clip_spec, joint.recipe.make_backbone()
    store = FeatureStore(store_root, feature_key(spec, backbone, joint.weights))
    check_clips(run, dataset, [task.clip for task in missing_tasks(dataset, store, USUAL_VIEW)])
    limit = joint.recipe.training.memory_limit_gb * 1e9
    return extract_with(dataset, spec, backbone, joint.weights, store_root, strict=True, memory_limit=limit)


def _write(
    folder: Path,
    name: str,
    source: Path,
    runs: Sequence[Run],
    joint: JointBackbone,
    extraction: Extraction,
) -> None:
    """Write the ensemble of runs into a folder."""
    members = [run.head.settings.model_dump(mode="json") for run in runs]
    recipe = joint.recipe.varied(head={"name": ENSEMBLE, "members": members, "inputs": joint.inputs})
    model = _combine(runs, recipe)
    outcome = judge_calibrated(model, extraction, recipe.decision)
    finished = FinishedTraining(
        name=name,
        source=source,
        recipe=recipe,
        extraction=extraction,
        weights=joint.weights,
        model=model,
        outcome=outcome,
        seconds={"extract": extraction.seconds, "train": sum(run.info.seconds.get("train", 0.0) for run in runs)},
        clip_seconds=runs[0].info.clip_seconds,
        members=tuple(
            RunMember(run.info.name, recipe_of_run(run.root).training.seed, run.info.classifier_sha256) for run in runs
        ),
        notes=(_note(runs, outcome, joint),),
    )
    write_run_folder(folder, finished)


def _combine(runs: Sequence[Run], recipe: Recipe) -> keras.Model:
    """The members' classifiers side by side; each brings its calibration along in its weights."""
    model = recipe.make_head().build(recipe.make_backbone().feature_shape(recipe.clip.frames))
    for member, run in zip(member_models(model), runs, strict=True):
        member.set_weights(run.classifier().get_weights())
    return model


def _note(runs: Sequence[Run], outcome: Outcome, joint: JointBackbone) -> str:
    split = outcome.best_split
    accuracies = [run.metrics[split]["accuracy"] for run in runs]
    names = ", ".join(run.info.name for run in runs)
    but = "augment.cutmix, backbone, clip.frames, clip.region, fine_tune and head" if joint.inputs else "the head"
    return (
        f"An ensemble of {len(runs)} runs, {names}: the mean of their probabilities. One by one, each at its own "
        f"threshold, they have an accuracy of {percent(min(accuracies))} to {percent(max(accuracies))} on these clips. "
        f"All sections of the recipe below but {but} are those of {runs[0].info.name}."
    )
