"""Which real clips an export is calibrated on, and which it is judged by: those of the run, and no others.

Quantization ranges come from clips of the training split, verdicts are compared on the validation split. A clip counts
only while its bytes are those that the run was trained with.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.artifacts.run import CLIPS, Run
from vdeploy.core.errors import ExportError
from vdeploy.core.files import sha256_of
from vdeploy.dataset import Dataset, LabelledClip
from vdeploy.export.decoded_clips import DATA_HINT, DecodedClips
from vdeploy.features.extraction import extract_dataset, feature_key
from vdeploy.features.store import FeatureStore
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "CALIBRATION_CLIPS",
    "ClipSet",
    "calibration_clips",
    "check_clips",
    "held_out_clips",
    "recorded_clips",
]

CALIBRATION_CLIPS = 200
"""Clips to calibrate on, where the training split has as many."""


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """Some of the clips that a run was trained or validated on.

    Attributes:
        dataset: The clips, each with its path, label and SHA-256, and the folder that the paths are relative to.
        spec: How a clip becomes frames.
        decoded: Decodes them.
    """

    dataset: Dataset
    spec: ClipSpec
    decoded: DecodedClips

    def __len__(self) -> int:
        return len(self.dataset.clips)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the clips by path."""
        return {clip.path: clip.sha256 for clip in self.dataset.clips}

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """``int64[N]``: 1 for violent."""
        return np.array([clip.label for clip in self.dataset.clips], np.int64)

    def at(self, indices: Sequence[int]) -> ClipSet:
        """The clips with these numbers."""
        clips = tuple(self.dataset.clips[index] for index in indices)
        return dataclasses.replace(self, dataset=dataclasses.replace(self.dataset, clips=clips))

    def frames(self, per_clip: int | None = None) -> Generator[npt.NDArray[np.uint8], None, None]:
        """Hands out one clip after the other; only a few are in memory at a time.

        Args:
            per_clip: How many of a clip's T frames to hand out, evenly spaced; all if left out.

        Yields:
            ``uint8[1, per_clip, H, W, 3]``, RGB.

        Raises:
            ExportError: A clip cannot be decoded.
        """
        paths = [self.dataset.absolute(clip) for clip in self.dataset.clips]
        with contextlib.closing(self.decoded.read(paths, per_clip)) as clips:
            for frames in clips:
                yield frames[np.newaxis]

    def features(self, run: Run, weights: Weights, store_root: Path) -> npt.NDArray[np.float32]:
        """The run's features of the clips, from the feature store; what it lacks is extracted and added to it.

        Args:
            run: The run.
            weights: The backbone's weights.
            store_root: Folder of all feature stores.

        Returns:
            ``float32[N, T, F]``.
        """
        store = FeatureStore(store_root, feature_key(self.spec, run.backbone, weights))
        extraction = extract_dataset(self.dataset, self.spec, store, lambda: run.extractor(weights), strict=True)
        return extraction.features[:].astype(np.float32)


def calibration_clips(
    run: Run,
    *,
    data: Path | None = None,
    count: int = CALIBRATION_CLIPS,
    seed: int = 0,
    decoded: DecodedClips | None = None,
) -> ClipSet:
    """Chooses clips of the training split, both classes in the shares that they have there.

    Args:
        run: The run.
        data: Where its clips lie, if no longer where they were at training.
        count: How many to choose; all where there are fewer.
        seed: Another seed chooses other clips.
        decoded: Decodes them; if left out, nothing is kept.

    Returns:
        The clips, in the order of the data set.

    Raises:
        ExportError: A clip is missing, or has changed since the training.
    """
    dataset = _dataset(run, data)
    clips = dataset.of("train")
    if len(clips) > count:
        clips = _draw(clips, count, seed)
    return _checked(run, dataset, clips, decoded)


def held_out_clips(run: Run, *, data: Path | None = None, decoded: DecodedClips | None = None) -> ClipSet:
    """The clips of the validation split.

    Args:
        run: The run.
        data: Where its clips lie, if no longer where they were at training.
        decoded: Decodes them; if left out, nothing is kept.

    Raises:
        ExportError: A clip is missing, or has changed since the training.
    """
    dataset = _dataset(run, data)
    return _checked(run, dataset, dataset.of("valid"), decoded)


def recorded_clips(run: Run, source: Path) -> Dataset:
    """The clips that a run remembers, with their splits and labels.

    Args:
        run: The run.
        source: The folder that they lie in, or a CSV beside them.
    """
    root = source.parent if source.is_file() else source
    return Dataset.read_csv(run.root / CLIPS, root=root, classes=run.info.classes)


def _dataset(run: Run, data: Path | None) -> Dataset:
    source = data or Path(run.info.source)
    if not source.exists():
        raise ExportError(f"the clips of {run.root} are not at {source}", DATA_HINT)
    return recorded_clips(run, source)


def _draw(clips: Sequence[LabelledClip], count: int, seed: int) -> tuple[LabelledClip, ...]:
    random = np.random.default_rng(seed)
    violent = [index for index, clip in enumerate(clips) if clip.label]
    others = [index for index, clip in enumerate(clips) if not clip.label]
    share = min(max(round(count * len(violent) / len(clips)), 1), count - 1)
    drawn = [*random.choice(violent, share, replace=False), *random.choice(others, count - share, replace=False)]
    return tuple(clips[index] for index in sorted(drawn))


def _checked(run: Run, dataset: Dataset, clips: Sequence[LabelledClip], decoded: DecodedClips | None) -> ClipSet:
    check_clips(run, dataset, clips)
    return ClipSet(dataclasses.replace(dataset, clips=tuple(clips)), run.spec, decoded or DecodedClips(run.spec))


def check_clips(run: Run, dataset: Dataset, clips: Sequence[LabelledClip]) -> None:
    """Check that clips are those that a run was trained with.

    Args:
        run: The run.
        dataset: What `recorded_clips` returned.
        clips: Some of its clips.

    Raises:
        ExportError: A clip is missing, or has changed since the training.
    """
    for clip in clips:
        file = dataset.absolute(clip)
        if not file.is_file():
            raise ExportError(f"the clip {file} of {run.root} is missing", DATA_HINT)
        if sha256_of(file) != clip.sha256:
            raise ExportError(f"{file} is not the clip that {run.root} was trained with", DATA_HINT)
