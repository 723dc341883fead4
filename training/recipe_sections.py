"""The sections of a recipe, their keys, defaults and ranges; the sections of models are their own settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vdeploy.core.settings import Settings
from vdeploy.models.region import Region
from vdeploy.models.shift_settings import Direction
from vdeploy.video.pictures import Fit

__all__ = [
    "AugmentSection",
    "AveragingSection",
    "ClipSection",
    "CurriculumSection",
    "DataSection",
    "DecisionSection",
    "DistillSection",
    "FineTuneSection",
    "LabelNoiseSection",
    "LossSection",
    "OptimizerSection",
    "PretrainSection",
    "SamplingSection",
    "TrainingSection",
]


class ClipSection(Settings):
    """How a video becomes frames; see `vdeploy.video.clips.ClipSpec` and, for views, `vdeploy.video.views`."""

    frames: int = Field(16, ge=1, le=1024)
    size: int = Field(224, ge=32, le=1024)
    views: int = Field(1, ge=1, le=15, description="samplings of each training clip; odd")
    fit: Fit = Field("squeeze", description="how pictures become squares; see vdeploy.video.pictures.Fit")
    mirrored: bool = Field(False, description="mirror images of training clips are learned from as well")
    region: Region = Field("full", description="where in the frame to look; see vdeploy.models.region")

    @model_validator(mode="after")
    def _views_have_a_middle(self) -> ClipSection:
        if self.views % 2 == 0:
            raise ValueError("views must be odd: the middle one is what a served model sees")
        return self


class LossSection(Settings):
    """What is minimised. Alpha ``"balanced"`` follows the class frequencies of the training split."""

    gamma: float = Field(2.0, ge=0, le=10)
    alpha: Literal["balanced"] | tuple[float, float] = "balanced"
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_weights: Literal["balanced", "none"] | float = Field(
        "none", description="a number: beta of the effective number of clips"
    )

    @model_validator(mode="after")
    def _alpha_is_positive(self) -> LossSection:
        if self.alpha != "balanced" and not all(1e-6 <= value <= 1e6 for value in self.alpha):
            raise ValueError("alpha must be positive for both classes, from 1e-6 to 1e6")
        return self

    @model_validator(mode="after")
    def _beta_is_a_share(self) -> LossSection:
        if not isinstance(self.class_weights, str) and not 0 <= self.class_weights < 1:
            raise ValueError('class_weights must be "balanced", "none" or a beta from 0 to below 1')
        return self


class OptimizerSection(Settings):
    """AdamW with linear warm-up and cosine decay, stepped per batch; or the exact solution for a linear head."""

    solver: Literal["auto", "adamw", "logistic"] = Field(
        "auto", description="logistic: the exact solution for a linear head, which takes l2 and no other key"
    )
    l2: Literal["auto"] | float = Field("auto", description="penalty; auto: by cross-validation over sources")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    warmup_epochs: float = Field(3, ge=0, le=1e6)
    floor: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of the highest")
    clip_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(1e-4, ge=0, le=1e3)
    scale_learning_rate: Literal["none", "linear"] = Field(
        "none", description="linear: learning_rate is meant for a batch of 32 and grows with the batch"
    )

    @model_validator(mode="after")
    def _penalty_is_positive(self) -> OptimizerSection:
        if self.l2 != "auto" and not 1e-9 <= self.l2 <= 1e9:
            raise ValueError('l2 must be "auto" or from 1e-9 to 1e9')
        return self


class TrainingSection(Settings):
    """How long, in what portions, on what, and when to stop."""

    epochs: int = Field(60, ge=1, le=1_000_000)
    batch: int = Field(32, ge=1, le=1_000_000, description="of all devices together")
    patience: int = Field(20, ge=1, le=1_000_000, description="epochs without a better validation AUC before it stops")
    seed: int = Field(0, ge=0, lt=2**31)
    devices: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    xla: Literal["auto"] | bool = "auto"
    memory_limit_gb: float = Field(8.0, gt=0, le=1e6, description="features beyond this are streamed from the disk")


class AugmentSection(Settings):
    """Random changes of the features that are trained on; 0 switches each of them off."""

    mixup: float = Field(0.0, ge=0, le=10, description="alpha of the Beta distribution")
    cutmix: float = Field(0.0, ge=0, le=10, description="alpha, too; a stretch of another clip is pasted")
    frame_jitter: float = Field(0.0, ge=0, le=1, description="probability that a frame is replaced by a neighbour")
    frame_drop: float = Field(0.0, ge=0, lt=1, description="probability that a frame repeats the one before")


class AveragingSection(Settings):
    """The moving average of the weights; see `training.methods.weight_averaging`."""

    decay: float = Field(0.0, ge=0, lt=1, description="of a step's weights with each further step; 0: no average")


class FineTuneSection(Settings):
    """Training of the backbone's last blocks; see `training.methods.fine_tuning`."""

    blocks: int = Field(0, ge=0, le=1000, description="how many of the backbone's last blocks are trained")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="of the last block; optimizer.learning_rate: the head's")
    layer_decay: float = Field(1.0, gt=0, le=1, description="of the learning rate with each block before the last")
    unfreeze_epochs: float = Field(
        0, ge=0, le=1e6, description="epochs between the start of one block and of the block before it; 0: all at once"
    )
    temporal_shift: Literal["none"] | Direction = Field(
        "none", description="the blocks get channels of neighbouring frames; past: of the frame before alone"
    )
    quantization_aware: bool = Field(False, description="the blocks learn with the eight bits of an INT8 export")


class SamplingSection(Settings):
    """Which clips an epoch draws; see `training.methods.class_balanced_sampling`."""

    balance: Literal["instances", "classes"] = Field(
        "instances", description="instances: every clip once; classes: both classes equally often"
    )


class CurriculumSection(Settings):
    """Easy clips first; see `training.methods.curriculum`."""

    pacing: Literal["none", "exponential"] = Field(
        "none", description="exponential: the share of clips that are drawn grows by a factor, from the easiest on"
    )
    start: float = Field(0.3, gt=0, le=1, description="share of the clips in the first epoch")
    increase: float = Field(1.5, gt=1, le=100, description="factor of each step")
    step_epochs: int = Field(3, ge=1, le=1_000_000, description="epochs of a step")


class DataSection(Settings):
    """How clips are split where the data set does not say."""

    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    seed: Literal["auto"] | Annotated[int, Field(ge=0, lt=2**31)] = Field(
        "auto", description="of splits that are drawn; auto: training.seed"
    )
    positive: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _split_adds_up(self) -> DataSection:
        if min(self.split) < 0 or self.split[0] <= 0 or self.split[1] <= 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(
                "split must be three shares (train, valid, test) that add up to 1, train and valid above 0"
            )
        return self


class LabelNoiseSection(Settings):
    """Labels of training clips that are probably wrong; see `training.methods.confident_learning`."""

    action: Literal["none", "report", "drop"] = Field(
        "none", description="report: list them; drop: list them, and learn from the other clips"
    )


class DistillSection(Settings):
    """What a teacher says of clips is learned beside their labels; see `training.methods.distillation.loss`."""

    teacher: str = Field("", description="folder of a run or of a bundle; empty: none")
    temperature: float = Field(2.0, ge=0.1, le=100, description="what logits are divided by before they are compared")
    weight: float = Field(0.9, ge=0, le=1, description="of the teacher in the loss; labels have the rest")
    unlabelled: str = Field("", description="folder of further clips, which nobody has labelled")

    @model_validator(mode="after")
    def _somebody_teaches(self) -> DistillSection:
        if self.unlabelled and not (self.teacher and self.weight):
            raise ValueError("unlabelled clips need a teacher and a weight above 0")
        return self


class PretrainSection(Settings):
    """Learning from footage that nobody has labelled; see `training.methods.self_supervised.vicreg`."""

    trunk: str = Field("", description="folder of vdeploy pretrain whose weights the head starts from; empty: none")
    epochs: int = Field(100, ge=1, le=1_000_000)
    batch: int = Field(128, ge=2, le=1_000_000, description="windows; each is looked at in two views")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    shortest: float = Field(0.5, gt=0, le=1, description="share of a window that a view shows at least")
    masked: float = Field(0.3, ge=0, lt=1, description="share of the features that a view leaves out")
    expander: int = Field(256, ge=2, le=16384, description="size of an embedding, and of the layers before it")
    invariance: float = Field(25.0, ge=0, le=1e6, description="weight of the distance of the two views")
    variance: float = Field(25.0, ge=0, le=1e6, description="weight of the variance of each feature of embeddings")
    covariance: float = Field(1.0, ge=0, le=1e6, description="weight of the covariances of these features")


class DecisionSection(Settings):
    """From which probability on a clip counts as violent: a number, or a rule for the validation clips.

    The rules are those of `vdeploy.evaluation.thresholds.choose_threshold`: ``"f1"``, the highest F1; ``"recall"``, the
    highest threshold that reaches ``recall_floor``; ``"cost"``, the lowest total cost of false alarms and misses. For
    ``"stable"``, the lowest smoothed cost, drawn towards the optimum of calibrated probabilities, see
    `vdeploy.evaluation.stable_threshold.choose_stable_threshold`.
    """

    threshold: Literal["f1", "recall", "cost", "stable"] | float = 0.5
    recall_floor: float = Field(0.95, gt=0, le=1)
    cost_false_alarm: float = Field(1.0, ge=0, le=1e9)
    cost_miss: float = Field(1.0, ge=0, le=1e9)

    @model_validator(mode="after")
    def _threshold_is_a_probability(self) -> DecisionSection:
        if not isinstance(self.threshold, str) and not 0 < self.threshold < 1:
            raise ValueError("threshold must lie between 0 and 1")
        return self

    @model_validator(mode="after")
    def _something_costs(self) -> DecisionSection:
        if self.cost_false_alarm + self.cost_miss == 0:
            raise ValueError("cost_false_alarm and cost_miss must not both be 0")
        return self

    def rule(self, clips: str = "the validation split") -> str:
        """How the threshold is chosen on some clips, in words."""
        match self.threshold:
            case "f1":
                return f"highest F1 on {clips}"
            case "recall":
                return f"highest that finds {self.recall_floor:.4g} of the violent clips of {clips}"
            case "cost":
                costs = f"a miss costing {self.cost_miss:g} and a false alarm {self.cost_false_alarm:g}"
                return f"lowest cost on {clips}, {costs}"
            case "stable":
                return f"lowest smoothed cost on {clips}, drawn towards {self.prior_threshold:.3g}"
        return "set in the recipe"

    @property
    def prior_threshold(self) -> float:
        """The optimal threshold for calibrated probabilities."""
        return self.cost_false_alarm / (self.cost_false_alarm + self.cost_miss)
