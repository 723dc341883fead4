"""From a data set to features: what the store has is read, the rest is decoded and pushed through VGG19 once."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.clips import Clip, ClipSpec, read_clips
from training.dataset import Dataset, LabelledClip, Problem
from training.errors import ClipError, DatasetError
from training.extractor import DIMENSIONS, FeatureExtractor, Layer
from training.feature_store import FeatureKey, FeatureStore
from training.progress import say, track
from training.weights import Weights

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Extraction", "extract_dataset", "feature_key", "fill_store"]

SHARD_CLIPS = 512
"""A shard is written at the latest after this many clips."""

SHARD_SECONDS = 15.0
"""A shard is written at the latest after this long: the most work that a killed extraction loses."""


@dataclasses.dataclass(frozen=True)
class Extraction:
    """Features of the clips of a data set that could be read.

    Attributes:
        dataset: The data set without the clips that could not be read; those are among its problems.
        features: ``float16[N, T, F]``, one row for each of ``dataset.clips``.
        hits: Clips whose features were in the store.
        decoded: Clips that were decoded and extracted now.
        notes: Clips that were used although something is odd about them: path and what.
        seconds: Time spent on decoding and extracting.
    """

    dataset: Dataset
    features: npt.NDArray[np.float16]
    hits: int
    decoded: int
    notes: tuple[Problem, ...]
    seconds: float


def feature_key(spec: ClipSpec, layer: Layer, weights: Weights) -> FeatureKey:
    """The key of the store that holds the features of these settings."""
    return FeatureKey(spec.digest, layer, weights.sha256, (spec.frames, DIMENSIONS[layer]))


def extract_dataset(
    dataset: Dataset,
    spec: ClipSpec,
    store: FeatureStore,
    make_extractor: Callable[[], FeatureExtractor],
    *,
    strict: bool = False,
    shard_seconds: float = SHARD_SECONDS,
) -> Extraction:
    """Makes sure that the store holds the features of all clips, and reads them.

    An interruption at any moment loses at most the clips since the last shard; the next call goes on from there.

    Args:
        dataset: The clips.
        spec: How a clip becomes frames.
        store: Where features are kept.
        make_extractor: Makes VGG19; called only if something is missing from the store.
        strict: Refuse a data set with clips that cannot be read instead of leaving them out.
        shard_seconds: How long to gather features before a shard is written.

    Returns:
        The features of all clips that could be read.

    Raises:
        DatasetError: No clip could be read, or with ``strict``, one could not.
        FeatureStoreError: The store cannot be written.
    """
    by_hash: dict[str, LabelledClip] = {}
    for clip in dataset.clips:
        by_hash.setdefault(clip.sha256, clip)
    missing = [clip for sha256, clip in by_hash.items() if sha256 not in store]
    started = time.monotonic()
    hits = sum(clip.sha256 in store for clip in dataset.clips)
    say(f"features: {hits} of {len(dataset.clips)} clips are in the store {store.folder}")
    notes: list[Problem] = []
    failures: dict[str, str] = {}
    if missing:
        extractor = make_extractor()
        for clip, outcome in fill_store(dataset, missing, spec, store, extractor, shard_seconds):
            if isinstance(outcome, ClipError):
                failures[clip.sha256] = outcome.reason
            else:
                notes.extend(Problem(clip.path, warning) for warning in outcome.warnings)
    else:
        say("features: nothing to decode, nothing to extract")
    unreadable = {clip.path: failures[clip.sha256] for clip in dataset.clips if clip.sha256 in failures}
    if unreadable and strict:
        first = next(iter(unreadable))
        raise DatasetError(
            f"{len(unreadable)} of {len(dataset.clips)} clips cannot be read, the first: {first}: {unreadable[first]}",
            "mend or remove them, or leave --strict out",
        )
    problems = (*dataset.problems, *(Problem(path, reason) for path, reason in unreadable.items()))
    readable = dataclasses.replace(dataset.without(unreadable), problems=problems)
    if not readable.clips:
        raise DatasetError(
            f"none of the {len(dataset.clips)} clips in {dataset.root} can be read", "see: vdeploy data scan"
        )
    return Extraction(
        dataset=readable,
        features=store.read([clip.sha256 for clip in readable.clips]),
        hits=hits,
        decoded=len(missing) - len(failures),
        notes=tuple(notes),
        seconds=time.monotonic() - started,
    )


def fill_store(
    dataset: Dataset,
    missing: Sequence[LabelledClip],
    spec: ClipSpec,
    store: FeatureStore,
    extractor: FeatureExtractor,
    shard_seconds: float = SHARD_SECONDS,
) -> Iterator[tuple[LabelledClip, Clip | ClipError]]:
    """Decodes clips, extracts their features and writes these to the store, shard by shard.

    Args:
        dataset: Where the clips belong.
        missing: The clips.
        spec: How a clip becomes frames.
        store: Where features go.
        extractor: VGG19.
        shard_seconds: How long to gather features before a shard is written.

    Yields:
        Each clip with its frames, or with the reason why it cannot be read.

    Raises:
        FeatureStoreError: The store cannot be written.
    """
    pending: dict[str, npt.NDArray[np.float32]] = {}
    written = time.monotonic()
    paths = [dataset.absolute(clip) for clip in missing]
    outcomes = zip(missing, (outcome for _, outcome in read_clips(paths, spec)), strict=True)
    try:
        with track("extract features", len(missing), "clips") as step:
            while batch := list(itertools.islice(outcomes, extractor.batch_clips)):
                readable = [(clip.sha256, outcome.frames) for clip, outcome in batch if isinstance(outcome, Clip)]
                if readable:
                    features = extractor.extract(np.stack([frames for _, frames in readable]))
                    pending.update(zip((sha256 for sha256, _ in readable), features, strict=True))
                if pending and (len(pending) >= SHARD_CLIPS or time.monotonic() - written >= shard_seconds):
                    shard, pending, written = pending, {}, time.monotonic()
                    store.append(shard)
                step.advance(len(batch))
                yield from batch
    finally:
        if pending:
            store.append(pending)
