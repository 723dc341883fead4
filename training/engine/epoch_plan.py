"""Which clips meet in which batch of an epoch, and with what targets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.augmentation import draw_frames, draw_mixing
from training.methods.class_balanced_sampling import draw_clips
from training.recipe_sections import AugmentSection
from vdeploy.core.errors import DatasetError, RunError
from vdeploy.features.memory_mapped import ShardedFeatures
from vdeploy.features.rows import FeatureRows
from vdeploy.video.views import usual_view

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["EpochPlan", "FeatureSplit", "check_splits", "plan_epoch"]


@dataclasses.dataclass(frozen=True)
class FeatureSplit:
    """One split of a data set, as the classifier sees it.

    Attributes:
        features: ``float16[N, T, F]``; to train on, ``float16[N, V, T, F]`` as well: V views of each clip.
        labels: ``int64[N]``, 0 or 1.
        groups: The source of each clip, empty where it is not known; ``None`` where no source is.
        soft: A teacher's probabilities, ``float32[N, 2]``; ``None`` without one.
        labelled: Which labels are known, ``bool[N]``, the others being the teacher's; ``None``: all.
    """

    features: FeatureRows
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_] | None = None
    soft: npt.NDArray[np.float32] | None = None
    labelled: npt.NDArray[np.bool_] | None = None

    @property
    def views(self) -> int:
        """Views of a clip, V."""
        return self.features.shape[1] if len(self.features.shape) == 4 else 1

    def sources(self) -> npt.NDArray[np.int64]:
        """The number of each clip's source; a clip of unknown source is a source by itself."""
        if self.groups is None:
            return np.arange(len(self.labels))
        names = [name or index for index, name in enumerate(self.groups.tolist())]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return np.array([numbers[name] for name in names], np.int64)

    def select(self, clips: npt.NDArray[np.int64]) -> FeatureSplit:
        """Some of the clips, by number; features on the disk stay there."""
        features = self.features
        chosen = features.select(clips) if isinstance(features, ShardedFeatures) else features[clips]
        known: dict[str, Any] = {name: getattr(self, name) for name in ("groups", "soft", "labelled")}
        rest = {name: None if value is None else value[clips] for name, value in known.items()}
        return FeatureSplit(chosen, self.labels[clips], **rest)

    def joined(self, other: FeatureSplit) -> FeatureSplit:
        """These clips and then others; both have a teacher's probabilities, and sources are told apart by name."""
        one, two = self.features, other.features
        features: FeatureRows
        if isinstance(one, ShardedFeatures) and isinstance(two, ShardedFeatures):
            features = one.joined(two)
        else:
            features = np.concatenate([one[:], two[:]])
        groups = self.groups if self.groups is not None else np.full(len(self.labels), "")
        further = other.groups if other.groups is not None else np.full(len(other.labels), "")
        return FeatureSplit(
            features,
            np.concatenate([self.labels, other.labels]),
            np.concatenate([groups, further]),
            None if self.soft is None or other.soft is None else np.concatenate([self.soft, other.soft]),
            np.concatenate([self.is_labelled, other.is_labelled]),
        )

    @property
    def is_labelled(self) -> npt.NDArray[np.bool_]:
        """Which labels are known, ``bool[N]``."""
        return np.ones(len(self.labels), bool) if self.labelled is None else self.labelled

    @property
    def targets(self) -> npt.NDArray[np.float32]:
        """What is learned of each clip: its label, one-hot, ``float32[N, 2]``; with a teacher ``float32[N, 4]``.

        A label that is not known is 0 for both classes; the teacher's probabilities follow.
        """
        labels = np.eye(2, dtype=np.float32)[self.labels]
        return labels if self.soft is None else np.hstack([labels * self.is_labelled[:, None], self.soft])

    def as_served(self) -> FeatureSplit:
        """The usual view of each clip alone, in memory: what a served model sees."""
        features = np.asarray(self.features[:])
        usual = features[:, usual_view(self.views)] if features.ndim == 4 else features
        return dataclasses.replace(self, features=usual)

    @property
    def nbytes(self) -> int:
        """Size of all features as float16."""
        return 2 * math.prod(self.features.shape)

    def all_finite(self) -> bool:
        """Whether features in memory hold no NaN and no infinity; a store has refused those when it was written.

        The loss does not tell: some kernels of ReLU turn NaN into 0, and a training would go on with nothing.
        """
        return not isinstance(self.features, np.ndarray) or all(bool(np.isfinite(clip).all()) for clip in self.features)


def check_splits(train: FeatureSplit, valid: FeatureSplit) -> None:
    """Check that a classifier can be trained on one split and judged on the other.

    Raises:
        DatasetError: A class is missing from the training split, or the validation split is empty.
        RunError: The features hold NaN or infinity.
    """
    if len(set(train.labels.tolist())) < 2:
        raise DatasetError("the training split holds one class only", "add clips of the other class")
    if not len(valid.labels):
        raise DatasetError("the validation split is empty", "add clips, or give a larger share: --set data.split=[..]")
    if not (train.all_finite() and valid.all_finite()):
        raise RunError("the features hold NaN or infinity", "check the weights of the backbone, and extract them again")


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """All batches of an epoch; S steps of B clips each.

    The last batch is filled up with clips of the first ones, which weigh nothing there.

    Attributes:
        clip_frames: Frames of a clip in all views, V * T.
        rows: Row of the split, ``int64[S, B]``.
        frames: Frame numbers within a clip's V * T, ``int32[S, B, T]``.
        partner: Position in the batch of the clip whose features are added, ``int64[S, B]``; ``None`` without mixup.
        share: Share of the clip itself where features are added up, ``float32[S, B]``, or ``None``.
        targets: ``float32[S, B, 2]``, or ``float32[S, B, 4]`` with a teacher, as `FeatureSplit.targets`; mixed.
        weights: What a clip's loss is multiplied by, ``float32[S, B]``.
        counts: Clips that weigh something in each step, ``float32[S]``.
        origin: Position in the batch of the clip that each step in time is taken from, ``int64[S, B, T]``; ``None``
            without CutMix.
    """

    clip_frames: int
    rows: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int32]
    partner: npt.NDArray[np.int64] | None
    share: npt.NDArray[np.float32] | None
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    counts: npt.NDArray[np.float32]
    origin: npt.NDArray[np.int64] | None = None

    def part(self, steps: slice) -> EpochPlan:
        """Some of the steps."""
        arrays: dict[str, Any] = {
            name: value[steps] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return dataclasses.replace(self, **arrays)

    def renumbered(self) -> EpochPlan:
        """The same steps on a table that holds their clips in the order in which they occur."""
        return dataclasses.replace(self, rows=np.arange(self.rows.size).reshape(self.rows.shape))

    def table_rows(self) -> npt.NDArray[np.int32]:
        """Rows of a table ``[clips * V * T, F]``, ``int32[S, T, B]``: time first, as the recurrence wants it."""
        rows = self.rows[:, :, None] * self.clip_frames + self.frames
        if self.origin is not None:
            rows = np.take_along_axis(rows, self.origin, axis=1)
        return np.ascontiguousarray(rows.transpose(0, 2, 1), dtype=np.int32)


def plan_epoch(
    split: FeatureSplit,
    seed: tuple[int, int],
    batch: int,
    class_weights: npt.NDArray[np.float32],
    augment: AugmentSection,
    pools: Sequence[npt.NDArray[np.int64]] | None = None,
) -> EpochPlan:
    """Plans an epoch in which, without pools, every clip occurs once, in an order that is a uniform permutation.

    Args:
        split: The clips.
        seed: Seed of the training and number of the epoch; nothing else decides what is drawn.
        batch: Clips of a global batch, B.
        class_weights: Weight of each class in the loss, ``float32[2]``.
        augment: Probabilities of changes.
        pools: Clips to draw from, each pool equally often; an epoch then still draws as many clips as the split has.

    Returns:
        The plan.
    """
    random = np.random.default_rng(seed)
    count, steps = len(split.labels), math.ceil(len(split.labels) / batch)
    drawn = draw_clips(random, [np.arange(count)] if pools is None else pools, count)
    rows = np.resize(drawn, steps * batch)
    mask = (np.arange(steps * batch) < count).astype(np.float32)
    labels = split.labels[rows]
    targets, weights = split.targets[rows], class_weights[labels]
    frames = draw_frames(random, len(rows), split.views, split.features.shape[-2], augment)
    mixing = draw_mixing(random, len(rows), batch, frames.shape[1], augment)
    partner = share = origin = None
    if mixing is not None:
        itself, other = mixing.share, mixing.partner
        targets = itself[:, None] * targets + (1 - itself[:, None]) * targets[other]
        weights = itself * weights + (1 - itself) * weights[other]
        positions = (other % batch).reshape(steps, batch)
        if mixing.added is not None:
            partner, share = positions, mixing.added.reshape(steps, batch)
        if mixing.pasted is not None:
            pasted = mixing.pasted.reshape(steps, batch, -1)
            origin = np.where(pasted, positions[:, :, None], np.arange(batch)[:, None])
    return EpochPlan(
        clip_frames=split.views * split.features.shape[-2],
        rows=rows.reshape(steps, batch),
        frames=frames.reshape(steps, batch, -1),
        partner=partner,
        share=share,
        targets=targets.reshape(steps, batch, -1),
        weights=(weights * mask).reshape(steps, batch),
        counts=mask.reshape(steps, batch).sum(axis=1),
        origin=origin,
    )
