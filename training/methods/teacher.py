"""The teacher: a logistic regression that tells how hard each training clip is, without having learned from its source.

The teacher is a simple model on the same features, as in the transfer scoring of Hacohen & Weinshall 2019, "On The
Power of Curriculum Learning in Training Deep Networks", sec. 3.1. It is cross-fitted over the sources, because a
classifier that has learned a clip, or another clip of its source, by heart finds it easy whatever its label.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.cross_fitting import PENALTIES, WeighedClips, clip_statistics, cross_fit
from training.engine.devices import barrier, is_chief
from training.engine.epoch_plan import FeatureSplit
from training.engine.losses import balanced_weights
from vdeploy.core.errors import RunError
from vdeploy.core.files import atomic_write
from vdeploy.core.progress import say
from vdeploy.models.registry import head_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["label_losses", "teacher_probabilities"]

_HEAD = {"name": "pooling", "statistics": "mean_std", "dropout": 0.0}


def teacher_probabilities(
    split: FeatureSplit, file: Path, *, seed: int, otherwise: str, strategy: Any
) -> npt.NDArray[np.float64]:
    """Cross-fit the teacher on a split, or read what an earlier call has written.

    Args:
        split: The training split.
        file: Where the probabilities are kept, so that an interrupted training goes on with the same ones. The first of
            several workers writes it, and the others read it.
        seed: Which sources come together.
        otherwise: What to set in the recipe where the clips do not allow it, for the message.
        strategy: What `training.engine.devices.open_strategy` gave.

    Returns:
        Probability of violence of each clip, ``float64[N]``.

    Raises:
        DatasetError: There are too few clips or sources of a class.
        RunError: The file cannot be written, or is that of other clips.
    """
    if is_chief() and not file.is_file():
        head = head_of(_HEAD)
        steps, dim = split.features.shape[-2:]
        statistics = clip_statistics(head.build((steps, dim)), split)
        weights = np.asarray(balanced_weights(split.labels))[split.labels]
        clips = WeighedClips(statistics, split.labels, split.sources(), split.labels.astype(np.float64), weights)
        found = cross_fit(clips, PENALTIES, seed, otherwise)
        say(f"teacher: log loss {found.losses[found.best]:.4f} on held-out sources")
        _write(file, found.probabilities[found.best])
    barrier(strategy)
    try:
        probabilities: npt.NDArray[np.float64] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{file} cannot be read ({error})", "remove it and train again") from error
    if probabilities.shape != split.labels.shape:
        raise RunError(f"{file} belongs to other clips", "remove it and train again")
    return probabilities


def label_losses(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The log loss of each clip, ``float64[N]``.

    Args:
        labels: 0 or 1, ``int64[N]``.
        probabilities: Of violence, ``float64[N]``.
    """
    losses: npt.NDArray[np.float64] = -np.log(
        np.maximum(np.where(labels == 1, probabilities, 1 - probabilities), 1e-300)
    )
    return losses


def _write(file: Path, probabilities: npt.NDArray[np.float64]) -> None:
    try:
        with atomic_write(file) as handle:
            np.save(handle, probabilities)
    except OSError as error:
        raise RunError(
            f"cannot write {file} ({error.strerror or error})", "free some space and run the same command again"
        ) from error
