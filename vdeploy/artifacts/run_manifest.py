"""What `run.json` holds: everything that an exporter or an evaluation needs to know of a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["RUN_SCHEMA_VERSION", "RunInfo", "RunMember", "RunStage"]

RUN_SCHEMA_VERSION = "2.0"


@dataclasses.dataclass(frozen=True)
class RunStage:
    """One stage of a run, in the order of the computation.

    Attributes:
        id: ``"extractor"`` or ``"classifier"``.
        architecture: Name of the backbone or of the head in `vdeploy.models.registry`.
        settings: Its settings.
        output: Shape of its output for one clip: (t, F) of features, (C,) of probabilities.
        parameters: Numbers that the weights of a trained head are; ``None`` for a backbone, and in runs of version 1.
        sha256: Hash of the weights of a backbone, or of the file that holds a trained head.
        file: The file in the run's folder; empty for a backbone whose weights are found by ``settings``.
        fine_tuned_blocks: Blocks of a backbone that were trained with the head; its weights then are in ``file``.
    """

    id: str
    architecture: str
    settings: Mapping[str, Any]
    output: tuple[int, ...]
    parameters: int | None
    sha256: str
    file: str = ""
    fine_tuned_blocks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RunMember:
    """One of the runs that an ensemble was made of.

    Attributes:
        name: Name of the run.
        seed: Seed of its training.
        sha256: Hash of the file of its trained head.
    """

    name: str
    seed: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What `run.json` holds besides the schema version.

    Attributes:
        name: Name of the run.
        created: When it was finished, ISO 8601 with time zone.
        source: The data set, as an absolute path.
        classes: Names of the classes in the data set: non-violent, violent.
        violent: Which of them is violent.
        clip: The clip specification; see `vdeploy.video.clips.ClipSpec.from_dict`.
        stages: The backbone and the head.
        threshold: Probability from which a clip counts as violent.
        temperature: What the logits were divided by after training; it is already inside the classifier.
        bias: What the logit of the violent class was raised by before that; it is inside the classifier as well.
        best_epoch: The epoch that was kept; 0 for an ensemble, which has none.
        seconds: Duration of the parts of the run.
        toolchain: Versions.
        clips_sha256: Hash of ``clips.csv``: path, label, split and hash of each clip; empty in runs of version 1.
        split: Shares of training, validation and test where the data set has no splits.
        seed: Seed of the splits, where the data set has none.
        positive: Names of violent classes that the recipe gave.
        threshold_interval: 95 % interval of the threshold; ``None`` where the rule gives none.
        clip_seconds: Median duration of the training clips; ``None`` where it is not known.
        members: The runs that an ensemble was made of; empty for a trained run.
    """

    name: str
    created: str
    source: str
    classes: tuple[str, str]
    violent: str
    clip: Mapping[str, Any]
    stages: tuple[RunStage, ...]
    threshold: float
    temperature: float
    bias: float
    best_epoch: int
    seconds: Mapping[str, float]
    toolchain: Mapping[str, str]
    clips_sha256: str
    split: tuple[float, float, float]
    seed: int
    positive: tuple[str, ...]
    threshold_interval: tuple[float, float] | None = None
    clip_seconds: float | None = None
    members: tuple[RunMember, ...] = ()

    def stage(self, id_: str) -> RunStage:
        """The stage of that id."""
        return next(stage for stage in self.stages if stage.id == id_)

    @property
    def weights_sha256(self) -> str:
        """Hash of the backbone's weights."""
        return self.stage("extractor").sha256

    @property
    def classifier_sha256(self) -> str:
        """Hash of the file of the trained head."""
        return self.stage("classifier").sha256

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunInfo:
        """Read what `dataclasses.asdict` gave, from JSON.

        Raises:
            KeyError, TypeError, ValueError: A field is missing, unknown or malformed.
        """
        stages = tuple(_stage(stage) for stage in values["stages"])
        if [stage.id for stage in stages] != ["extractor", "classifier"]:
            raise ValueError("the stages are not an extractor and a classifier")
        non_violent, violent = values["classes"]
        shares = tuple(values["split"])
        if len(shares) != 3:
            raise ValueError("split does not hold three shares")
        interval = values.get("threshold_interval")
        return cls(
            **{
                **values,
                "threshold_interval": None if interval is None else (float(interval[0]), float(interval[1])),
                "stages": stages,
                "classes": (non_violent, violent),
                "split": shares,
                "positive": tuple(values["positive"]),
                "members": tuple(RunMember(**member) for member in values.get("members", ())),
            }
        )


def _stage(values: Mapping[str, Any]) -> RunStage:
    sequences = {key: tuple(values.get(key, ())) for key in ("output", "fine_tuned_blocks")}
    return RunStage(**{**values, **sequences})
