"""From a data set to features: what the store has is read, the rest is decoded and pushed through the backbone once.

Clips to train on may have several views (see `vdeploy.video.views`); all other clips have
the usual sampling only, which is what a served model sees.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ClipError, DatasetError
from vdeploy.core.progress import say
from vdeploy.dataset import Dataset, LabelledClip, Problem
from vdeploy.features.filling import SHARD_SECONDS, Task, fill_store
from vdeploy.features.memory_mapped import ShardedFeatures
from vdeploy.features.rows import FeatureRows
from vdeploy.features.store import FeatureKey, FeatureStore
from vdeploy.models.base import Backbone
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec
from vdeploy.video.views import USUAL_VIEW, Views, usual_view

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Extraction", "extract_dataset", "extract_with", "feature_key", "missing_tasks"]


@dataclasses.dataclass(frozen=True)
class Extraction:
    """Features of the clips of a data set that could be read.

    Attributes:
        dataset: The data set without the clips that could not be read; those are among its problems.
        features: ``float16[N, T, F]``, the usual sampling of each of ``dataset.clips``; in memory where they fit.
        hits: Clips whose features were in the store.
        decoded: Clips that were decoded and extracted now.
        notes: Clips that were used although something is odd about them: path and what.
        seconds: Time spent on decoding and extracting.
        training_views: ``float16[M, V, T, F]``, all V views of each of ``dataset.of("train")``; ``None`` if V is 1.
    """

    dataset: Dataset
    features: FeatureRows
    hits: int
    decoded: int
    notes: tuple[Problem, ...]
    seconds: float
    training_views: FeatureRows | None = None

    def of(self, split: str) -> FeatureRows:
        """Features of the clips of one split, their usual sampling: ``[N, T, F]``."""
        rows = np.flatnonzero([clip.split == split for clip in self.dataset.clips])
        return self.features.select(rows) if isinstance(self.features, ShardedFeatures) else self.features[rows]

    def to_train_on(self) -> FeatureRows:
        """Features of the training split: ``[N, T, F]``, or ``[N, V, T, F]`` with several views."""
        return self.of("train") if self.training_views is None else self.training_views


def feature_key(spec: ClipSpec, backbone: Backbone[Any], weights: Weights) -> FeatureKey:
    """Return the key of the store that holds the features of these settings."""
    return FeatureKey(spec.digest, backbone.cache_key, weights.sha256, backbone.feature_shape(spec.frames))


def extract_with(
    dataset: Dataset,
    spec: ClipSpec,
    backbone: Backbone[Any],
    weights: Weights,
    store_root: Path,
    *,
    views: Views = USUAL_VIEW,
    strict: bool = False,
    memory_limit: float = math.inf,
) -> Extraction:
    """Extract the features of a data set with a backbone; see `extract_dataset`.

    Args:
        dataset: The clips.
        spec: How a clip becomes frames; of one view.
        backbone: The backbone.
        weights: Its weights.
        store_root: Folder of all feature stores.
        views: Views of each clip of the training split.
        strict: Refuse a data set with clips that cannot be read.
        memory_limit: Bytes from which features stay on the disk.
    """
    return extract_dataset(
        dataset,
        spec,
        FeatureStore(store_root, feature_key(spec, backbone, weights)),
        lambda: FeatureExtractor(backbone, weights, spec),
        views=views,
        strict=strict,
        memory_limit=memory_limit,
    )


def extract_dataset(
    dataset: Dataset,
    spec: ClipSpec,
    store: FeatureStore,
    make_extractor: Callable[[], FeatureExtractor],
    *,
    views: Views = USUAL_VIEW,
    strict: bool = False,
    memory_limit: float = math.inf,
    shard_seconds: float = SHARD_SECONDS,
) -> Extraction:
    """Makes sure that the store holds the features of all clips, and reads them.

    An interruption at any moment loses at most the clips since the last shard; the next call goes on from there.

    Args:
        dataset: The clips.
        spec: How a clip becomes frames; of one view.
        store: Where features are kept.
        make_extractor: Makes the extractor; called only if something is missing from the store.
        views: Views of each clip of the training split.
        strict: Refuse a data set with clips that cannot be read instead of leaving them out.
        memory_limit: Bytes from which features stay on the disk.
        shard_seconds: How long to gather features before a shard is written.

    Returns:
        The features of all clips that could be read.

    Raises:
        DatasetError: No clip could be read, or with ``strict``, one could not.
        FeatureStoreError: The store cannot be written.
    """
    if strict:
        _refuse(dataset, {problem.path: problem.reason for problem in dataset.problems})
    spec = dataclasses.replace(spec, views=views.decoded)
    tasks = missing_tasks(dataset, store, views)
    started = time.monotonic()
    absent = {task.clip.sha256 for task in tasks}
    hits = sum(clip.sha256 not in absent for clip in dataset.clips)
    say(f"features: {hits} of {len(dataset.clips)} clips are in the store {store.folder}")
    notes: list[Problem] = []
    failures: dict[str, str] = {}
    if tasks:
        extractor = make_extractor()
        for task, outcome in fill_store(dataset, tasks, spec, views, store, extractor, shard_seconds):
            if isinstance(outcome, ClipError):
                failures[task.clip.sha256] = outcome.reason
            else:
                notes.extend(Problem(task.clip.path, warning) for warning in outcome.warnings)
    else:
        say("features: nothing to decode, nothing to extract")
    unreadable = {clip.path: failures[clip.sha256] for clip in dataset.clips if clip.sha256 in failures}
    if strict:
        _refuse(dataset, unreadable)
    problems = (*dataset.problems, *(Problem(path, reason) for path, reason in unreadable.items()))
    readable = dataclasses.replace(dataset.without(unreadable), problems=problems)
    if not readable.clips:
        raise DatasetError(
            f"none of the {len(dataset.clips)} clips in {dataset.root} can be read", "see: vdeploy data scan"
        )
    return Extraction(
        dataset=readable,
        features=_read(store, np.array([clip.sha256 for clip in readable.clips]), memory_limit),
        hits=hits,
        decoded=len(tasks) - len(failures),
        notes=tuple(notes),
        seconds=time.monotonic() - started,
        training_views=_training_views(readable, store, views, memory_limit),
    )


def _refuse(dataset: Dataset, unusable: Mapping[str, str]) -> None:
    if unusable:
        first = next(iter(unusable))
        raise DatasetError(
            f"{len(unusable)} clips of {dataset.root} cannot be used, the first: {first}: {unusable[first]}",
            "replace or remove them, or leave --strict out",
        )


def missing_tasks(dataset: Dataset, store: FeatureStore, views: Views) -> list[Task]:
    """What the store lacks, one task for each content.

    Args:
        dataset: The clips.
        store: What has been extracted.
        views: Views of each clip of the training split.
    """
    wanted: dict[str, tuple[LabelledClip, set[int]]] = {}
    for clip in dataset.clips:
        _, numbers = wanted.setdefault(clip.sha256, (clip, set()))
        numbers.update(range(views.count) if clip.split == "train" else [usual_view(views.count)])
    return [
        Task(clip, lacking)
        for sha256, (clip, numbers) in wanted.items()
        if (lacking := tuple(v for v in sorted(numbers) if views.row_names(sha256)[v] not in store))
    ]


def _training_views(dataset: Dataset, store: FeatureStore, views: Views, memory_limit: float) -> FeatureRows | None:
    if views.count == 1:
        return None
    names = [views.row_names(clip.sha256) for clip in dataset.of("train")]
    return _read(store, np.array(names), memory_limit)


def _read(store: FeatureStore, names: npt.NDArray[np.str_], memory_limit: float) -> FeatureRows:
    """Features by name: in memory, or on the disk where they would take more memory than they may."""
    rows = store.rows(names)
    return rows[:] if 2 * math.prod(rows.shape) <= memory_limit else rows
