"""What a row times: a callable, its inputs, and what else a row's process needs to know about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.benchmark.served.statistics import Counts

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.artifacts.bundle import Manifest
    from vdeploy.benchmark.record import Workload
    from vdeploy.inference.scorer import Scorer

__all__ = ["DISTINCT_INPUTS", "Call", "Subject", "distinct_inputs"]

DISTINCT_INPUTS = 4
"""Calls alternate between this many inputs, so that a cache of answers is not measured."""

Call = Callable[[int], dict[str, float]]
"""Takes the number of earlier calls, which chooses the input. Returns the seconds of each part, named as the fields of
`vdeploy.benchmark.record.Shares`; an empty dictionary where a call has no parts."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """The subject of a measurement.

    Attributes:
        call: Runs it once.
        scorer: Scores clips, where frames go in and probabilities come out; otherwise ``None``.
        others: Calls of further callers that run at the same time.
        counts: Reads the server's counters, by stage.
    """

    call: Call
    scorer: Scorer | None = None
    others: tuple[Call, ...] = ()
    counts: Callable[[], Counts] = dict


def distinct_inputs(manifest: Manifest, what: Workload, batch: int) -> npt.NDArray[Any]:
    """Makes `DISTINCT_INPUTS` batches, each beginning with another clip.

    Args:
        manifest: Manifest of the bundle, which holds the shapes of clips and features.
        what: The workload; the classifier takes features, all others take frames.
        batch: Clips per call.

    Returns:
        ``[DISTINCT_INPUTS, batch, ...]``: ``uint8`` frames, or ``float32`` features.
    """
    spec, clips = manifest.clip_spec, np.arange(DISTINCT_INPUTS)
    inputs: npt.NDArray[Any]
    if what == "classifier":
        shape = (DISTINCT_INPUTS, *manifest.feature_shape)
        inputs = np.maximum(np.random.default_rng(0).standard_normal(shape, np.float32), 0)
    else:
        inputs = synthetic_frames(DISTINCT_INPUTS, spec.frames, spec.size)
    chosen: npt.NDArray[Any] = inputs[(clips[:, np.newaxis] + np.arange(batch)) % DISTINCT_INPUTS]
    return chosen
