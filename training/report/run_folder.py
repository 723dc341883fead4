"""What a finished training writes into its run folder; the manifest comes last."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.history import EpochRecord
from training.methods.confident_learning import LabelAudit
from training.recipe import Recipe, recipe_toml
from training.report.evaluate_run import Outcome, mistakes, suspicious_clips
from training.report.run_report import ReportData, write_report
from training.report.training_views import training_views
from vdeploy.artifacts.run import BACKBONE, CLASSIFIER, CLIPS, SUSPICIOUS_LABELS, toolchain, write_run
from vdeploy.artifacts.run_manifest import RunInfo, RunMember, RunStage
from vdeploy.core.errors import RunError
from vdeploy.core.files import clone_or_copy, sha256_of, write_json
from vdeploy.core.timestamps import now
from vdeploy.dataset import Dataset
from vdeploy.features.extraction import Extraction
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.fine_tuned import save_fine_tuned

if TYPE_CHECKING:
    import keras

__all__ = ["FinishedTraining", "write_backbone", "write_run_folder"]


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedTraining:
    """A calibrated classifier, and how it came about.

    Attributes:
        name: Name of the run.
        source: The data set.
        recipe: Every choice.
        extraction: Features of its clips.
        weights: The backbone's weights.
        model: The classifier.
        outcome: Its figures.
        seconds: Duration of the parts of the training.
        history: A record of each epoch; empty for an ensemble.
        best_epoch: The epoch that was kept; 0 for an ensemble.
        clip_seconds: Median duration of the training clips; ``None`` where it is not known.
        members: The runs that an ensemble was made of.
        notes: Remarks for the reader of the report.
        audit: What was found out about the labels of the training clips, where the recipe asks.
    """

    name: str
    source: Path
    recipe: Recipe
    extraction: Extraction
    weights: Weights
    model: keras.Model
    outcome: Outcome
    seconds: Mapping[str, float]
    history: Sequence[EpochRecord] = ()
    best_epoch: int = 0
    clip_seconds: float | None = None
    members: tuple[RunMember, ...] = ()
    notes: tuple[str, ...] = ()
    audit: LabelAudit | None = None


def write_backbone(folder: Path, network: keras.Model, pretrained: Weights) -> Weights:
    """Write a backbone whose blocks were trained.

    Args:
        folder: The folder, which exists.
        network: Its network.
        pretrained: What the training began with.

    Returns:
        The weights that it has now.

    Raises:
        RunError: The file cannot be written.
    """
    file = folder / BACKBONE
    try:
        save_fine_tuned(network, file)
    except OSError as error:
        raise RunError(
            f"cannot write {file} ({error.strerror or error})", "free some space and run the same command again"
        ) from error
    return Weights(pretrained.source, file, sha256_of(file))


def write_run_folder(folder: Path, finished: FinishedTraining) -> None:
    """Write the clips, the models, the report, the recipe, the metrics and the manifest.

    Args:
        folder: The folder, which exists.
        finished: What is written.
    """
    dataset, outcome, recipe = finished.extraction.dataset, finished.outcome, finished.recipe
    if finished.audit is not None:
        write_json(folder / SUSPICIOUS_LABELS, _suspicious_labels(finished.audit, dataset))
    dataset.write_csv(folder / CLIPS)
    if finished.weights.fine_tuned and finished.weights.path not in (None, folder / BACKBONE):
        (folder / BACKBONE).unlink(missing_ok=True)
        clone_or_copy(finished.weights.path, folder / BACKBONE)
    finished.model.save(folder / CLASSIFIER)
    info = RunInfo(
        name=finished.name,
        created=now(),
        source=str(finished.source.absolute()),
        classes=dataset.classes,
        violent=dataset.classes[1],
        clip=recipe.clip_spec.to_dict(),
        stages=_stages(finished, sha256_of(folder / CLASSIFIER)),
        threshold=outcome.threshold,
        temperature=outcome.calibration.temperature,
        bias=outcome.calibration.bias,
        best_epoch=finished.best_epoch,
        seconds={part: round(value, 3) for part, value in finished.seconds.items()},
        toolchain=toolchain(),
        clips_sha256=sha256_of(folder / CLIPS),
        split=recipe.data.split,
        seed=recipe.split_seed,
        positive=recipe.data.positive,
        threshold_interval=None if outcome.stability is None else outcome.stability.interval,
        clip_seconds=finished.clip_seconds,
        members=finished.members,
    )
    write_report(folder, _report_data(info, finished))
    write_run(
        folder, recipe_toml(recipe), info, {split: figures.to_dict() for split, figures in outcome.evaluations.items()}
    )


def _stages(finished: FinishedTraining, sha256: str) -> tuple[RunStage, ...]:
    recipe = finished.recipe
    backbone, head, own = recipe.fine_tuned_backbone(), recipe.make_head(), finished.weights.fine_tuned
    return (
        RunStage(
            id="extractor",
            architecture=backbone.name,
            settings={**backbone.stage_settings, "weights": finished.weights.source},
            output=backbone.feature_shape(recipe.clip.frames),
            parameters=None,
            sha256=finished.weights.sha256,
            file=BACKBONE if own else "",
            fine_tuned_blocks=backbone.blocks[-recipe.fine_tune.blocks :] if recipe.fine_tune.blocks else (),
        ),
        RunStage(
            id="classifier",
            architecture=head.name,
            settings=head.stage_settings,
            output=(2,),
            parameters=int(finished.model.count_params()),
            sha256=sha256,
            file=CLASSIFIER,
        ),
    )


def _suspicious_labels(audit: LabelAudit, dataset: Dataset) -> list[dict[str, Any]]:
    clips = dataset.of("train")
    return [
        {
            "path": clips[number].path,
            "label": dataset.classes[clips[number].label],
            "probability_violent": round(float(audit.probabilities[number]), 6),
            "dropped": audit.dropped,
        }
        for number in audit.suspicious
    ]


def _report_data(info: RunInfo, finished: FinishedTraining) -> ReportData:
    dataset, outcome, audit = finished.extraction.dataset, finished.outcome, finished.audit
    split, decision = outcome.best_split, finished.recipe.decision
    stability = [] if outcome.stability is None else [outcome.stability.in_words(decision.prior_threshold)]
    return ReportData(
        name=info.name,
        evaluation=outcome.evaluations[split],
        labels=np.array([clip.label for clip in dataset.of(split)]),
        probabilities=outcome.probabilities[split],
        split=split,
        tuned_on_split=split == "valid" and outcome.is_tuned_on_valid,
        threshold_rule=outcome.rule,
        calibration=outcome.calibration,
        uncalibrated=None if info.members else outcome.uncalibrated[split],
        classes=dataset.classes,
        created=info.created,
        counts=dataset.counts(),
        problems=[f"{problem.path}: {problem.reason}" for problem in (*dataset.problems, *finished.extraction.notes)],
        recipe=finished.recipe.model_dump(mode="json"),
        history=[dataclasses.asdict(record) for record in finished.history],
        best_epoch=info.best_epoch or None,
        mistakes=mistakes(outcome, dataset, finished.recipe),
        suspicious=() if audit is None else suspicious_clips(audit, dataset, finished.recipe),
        suspicious_count=None if audit is None else len(audit.suspicious),
        suspicious_dropped=audit is not None and audit.dropped,
        viewed=training_views(dataset, finished.recipe),
        environment=info.toolchain,
        notes=[*finished.notes, *stability],
    )
