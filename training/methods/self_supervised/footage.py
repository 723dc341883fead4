"""Footage of any length: cut to windows as `vdeploy mine` cuts it, and the features of these in the store.

A store of windows lies beside those of clips. The last window of a video says that it is the last one, so a video whose
extraction was interrupted is extracted again, to the same features: videos go through the backbone one by one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.methods.hard_negatives.mining import stated_durations
from training.recipe import Recipe
from vdeploy.core.errors import ClipError, DatasetError
from vdeploy.core.files import sha256_of
from vdeploy.core.progress import Step, say, track
from vdeploy.core.text import name_problem
from vdeploy.features.extraction import feature_key
from vdeploy.features.filling import is_full
from vdeploy.features.memory_mapped import ShardedFeatures
from vdeploy.features.store import FeatureStore
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.weights.find import Weights
from vdeploy.timeline.decoding import sample_videos
from vdeploy.timeline.sliding import Sample, SlidingExtractor
from vdeploy.timeline.windows import WindowPlan

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Footage", "FootageVideo", "extract_footage"]


@dataclasses.dataclass(frozen=True)
class FootageVideo:
    """A video of the footage.

    Attributes:
        path: The file, absolute.
        sha256: Hash of its content.
        windows: Windows that it was cut to.
    """

    path: str
    sha256: str
    windows: int


@dataclasses.dataclass(frozen=True, eq=False)
class Footage:
    """Windows of videos.

    Attributes:
        videos: The videos that could be read, each content once.
        features: Of all their windows in turn, ``float16[N, t, F]``, on the disk.
        failed: Why each other file could not be read.
    """

    videos: tuple[FootageVideo, ...]
    features: ShardedFeatures
    failed: dict[str, str]


def extract_footage(
    paths: Sequence[Path], recipe: Recipe, weights: Weights, store_root: Path, plan: WindowPlan
) -> Footage:
    """Make sure that the store holds the features of all windows, and find them there.

    Args:
        paths: Video files.
        recipe: Its clip and backbone sections apply.
        weights: The backbone's weights.
        store_root: Folder of all feature stores.
        plan: The windows.

    Raises:
        DatasetError: No video can be read.
        FeatureStoreError: The store cannot be written.
    """
    backbone, spec = recipe.make_backbone(), recipe.clip_spec
    key = feature_key(spec, backbone, weights)
    layer = f"{key.layer} in windows of {plan.window_s!r} s every {plan.stride} frames"
    store = FeatureStore(store_root, dataclasses.replace(key, layer=layer))
    failed: dict[str, str] = {}
    hashes: dict[str, Path] = {}
    with track("hash footage", len(paths), "files") as step:
        for path in paths:
            try:
                if problem := name_problem(str(path)):
                    failed[ascii(str(path))] = problem
                else:
                    hashes.setdefault(sha256_of(path), path)
            except OSError as error:
                failed[str(path)] = f"cannot be read ({error.strerror})"
            step.advance()
    missing = {path: sha256 for sha256, path in hashes.items() if not _windows(store, sha256)}
    say(f"features: {len(hashes) - len(missing)} of {len(hashes)} videos are in the store {store.folder}")
    if missing:
        extractor = FeatureExtractor(backbone, weights, spec)
        expected = list(stated_durations(list(missing)))
        total = None if None in expected else sum(seconds or 0.0 for seconds in expected)
        with track("extract features", total, "seconds of video") as step:
            for path, sha256 in missing.items():
                try:
                    _extract(path, sha256, extractor, plan, store, step)
                except ClipError as error:
                    failed[str(path)] = error.reason
    names = {sha256: _windows(store, sha256) for sha256 in hashes}
    videos = tuple(
        FootageVideo(os.path.abspath(path), sha256, len(names[sha256]))  # noqa: PTH100  resolve() would follow links
        for sha256, path in hashes.items()
        if names[sha256]
    )
    if not videos:
        raise DatasetError(f"none of the {len(paths)} videos can be read", "see: vdeploy data scan")
    return Footage(videos, store.rows(np.array(list(itertools.chain(*names.values())))), failed)


def _windows(store: FeatureStore, sha256: str) -> list[str]:
    """Names in the store of the windows of a video; none unless it was extracted to its end."""
    names: list[str] = []
    while (name := f"{sha256} {len(names)}") in store:
        names.append(name)
    return [*names, f"{name} last"] if f"{name} last" in store else []


def _extract(
    path: Path, sha256: str, extractor: FeatureExtractor, plan: WindowPlan, store: FeatureStore, step: Step
) -> None:
    """Extract the windows of a video, shard by shard; the last one comes last."""
    shard: dict[str, npt.NDArray[np.float32]] = {}
    held: npt.NDArray[np.float32] | None = None
    number = 0
    for features in _features(path, extractor, plan, step):
        if held is not None:
            shard[f"{sha256} {number}"], number = held, number + 1
        if shard and is_full(shard):
            store.append(shard)
            shard = {}
        held = features
    if held is not None:
        store.append({**shard, f"{sha256} {number} last": held})


def _features(
    path: Path, extractor: FeatureExtractor, plan: WindowPlan, step: Step
) -> Iterator[npt.NDArray[np.float32]]:
    """Features of the windows of a video in turn, ``float32[t, F]`` each."""
    windows: SlidingExtractor[int] = SlidingExtractor(extractor, plan)
    batch: list[Sample[int]] = []
    spec, seen_s = extractor.spec, 0.0
    with contextlib.closing(sample_videos([path], plan, spec.size, fit=spec.fit, ahead=4 * spec.frames)) as items:
        for item in items:
            if isinstance(item, Sample):
                batch.append(item)
                if len(batch) < spec.frames:
                    continue
            elif item.error:
                raise item.error
            due = [window for _, window in windows.push(batch)]
            if not isinstance(item, Sample) and (last := windows.end(item.stream)):
                due.append(last)
            batch.clear()
            for window in due:
                yield windows.features([window])[0]
            end_s = plan.time_of(item.index) if isinstance(item, Sample) else item.duration_s
            step.advance(round(end_s - seen_s, 3), path.name)
            seen_s = end_s
