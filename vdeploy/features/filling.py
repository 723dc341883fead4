"""Decoding of clips, extraction of their features, and writing of these to the store, shard by shard."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import ClipError
from vdeploy.core.progress import track
from vdeploy.dataset import Dataset, LabelledClip
from vdeploy.features.store import FeatureStore
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.video.clips import Clip, ClipSpec
from vdeploy.video.views import Views
from vdeploy.video.workers.clips import decode_clips

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["SHARD_CLIPS", "SHARD_SECONDS", "Task", "fill_store", "is_full"]

SHARD_CLIPS = 512
"""A shard is written at the latest after this many clips."""

SHARD_BYTES = 1 << 28
"""A shard is written as well when features take this much memory: activations of a trunk are large."""

SHARD_SECONDS = 15.0
"""A shard is written at the latest after this long: the most work that a killed extraction loses."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One clip to decode, and the numbers of those of its views that the store lacks.

    Attributes:
        clip: The clip.
        views: Numbers of views; ``(0,)`` where a clip has one.
    """

    clip: LabelledClip
    views: tuple[int, ...]


def fill_store(
    dataset: Dataset,
    tasks: Sequence[Task],
    spec: ClipSpec,
    views: Views,
    store: FeatureStore,
    extractor: FeatureExtractor,
    shard_seconds: float = SHARD_SECONDS,
) -> Iterator[tuple[Task, Clip | ClipError]]:
    """Decodes clips, extracts their features and writes these to the store, shard by shard.

    Args:
        dataset: Where the clips belong.
        tasks: The clips, and which views of each.
        spec: How a clip becomes frames, all samplings of the views together.
        views: Views of each clip of the training split.
        store: Where features go.
        extractor: The backbone with its weights.
        shard_seconds: How long to gather features before a shard is written.

    Yields:
        Each task with its frames, or with the reason why it cannot be read.

    Raises:
        FeatureStoreError: The store cannot be written.
    """
    pending: dict[str, npt.NDArray[np.float32]] = {}
    written = time.monotonic()
    paths = [dataset.absolute(task.clip) for task in tasks]
    outcomes = zip(tasks, (outcome for _, outcome in decode_clips(paths, spec)), strict=True)
    try:
        with track("extract features", len(tasks), "clips") as step:
            while batch := list(itertools.islice(outcomes, extractor.batch_clips)):
                names, frames = _views_of(batch, views)
                for start in range(0, len(names), extractor.batch_clips):
                    portion = slice(start, start + extractor.batch_clips)
                    features = extractor.extract(np.stack(frames[portion]))
                    pending.update(zip(names[portion], features, strict=True))
                if pending and (is_full(pending) or time.monotonic() - written >= shard_seconds):
                    shard, pending, written = pending, {}, time.monotonic()
                    store.append(shard)
                step.advance(len(batch))
                yield from batch
    finally:
        if pending:
            store.append(pending)


def is_full(shard: Mapping[str, npt.NDArray[np.float32]]) -> bool:
    """Whether features, by name, make a shard, by number or by size."""
    return len(shard) >= SHARD_CLIPS or len(shard) * next(iter(shard.values())).nbytes >= SHARD_BYTES


def _views_of(
    batch: Sequence[tuple[Task, Clip | ClipError]], views: Views
) -> tuple[list[str], list[npt.NDArray[np.uint8]]]:
    """The rows to extract of decoded clips: their names in the store, and their frames ``uint8[T, H, W, 3]``."""
    names: list[str] = []
    frames: list[npt.NDArray[np.uint8]] = []
    for task, outcome in batch:
        if isinstance(outcome, Clip):
            row_names = views.row_names(task.clip.sha256)
            names += [row_names[view] for view in task.views]
            frames.extend(views.deal(outcome.frames, task.views, task.clip.sha256))
    return names, frames
