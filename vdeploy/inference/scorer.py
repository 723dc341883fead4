"""What every way of scoring clips has in common, in this process or on a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vdeploy.core.errors import DeployError
from vdeploy.video.clips import ClipSpec

if TYPE_CHECKING:
    from vdeploy.evaluation.drift import ScoreHistogram
    from vdeploy.inference.causal import Causal

__all__ = [
    "BundleScorer",
    "KeptStream",
    "Scorer",
    "StagedScorer",
    "StreamScore",
    "StreamScorer",
    "check_features",
    "padded",
]


class Scorer(Protocol):
    """Turns clips into class probabilities.

    Attributes:
        spec: The frames that it expects.
        classes: Names of the two probabilities, in order.
        threshold: Probability of the second class from which a clip counts as violent.
    """

    @property
    def spec(self) -> ClipSpec:
        """The frames that it expects."""

    @property
    def classes(self) -> tuple[str, str]:
        """Names of the two probabilities, in order."""

    @property
    def threshold(self) -> float:
        """Probability of the second class from which a clip counts as violent."""

    def score(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores a batch of clips.

        Args:
            frames: RGB, `uint8[B, T, S, S, 3]` with T and S of `spec`.

        Returns:
            `float32[B, 2]`; a row sums to 1.
        """


class StagedScorer(Scorer, Protocol):
    """A scorer whose two stages can be called one by one, so that a frame's features serve many windows.

    Attributes:
        clip_seconds: Median duration of the clips that the classifier was trained on; `None` where it is not known.
        granularity: `"frame"` where a frame's features do not depend on the other frames; `"clip"` where the extractor
            looks at all frames of a clip together, so that only whole clips may be given to `extract`.
        causal: How the features of a stream are computed where those of a frame depend on the frames before it alone;
            `None` elsewhere. The granularity is `"clip"` there.
    """

    @property
    def clip_seconds(self) -> float | None:
        """Median duration of the training clips, if it is known."""

    @property
    def granularity(self) -> Literal["frame", "clip"]:
        """What the extractor looks at as one: a frame, or a clip."""

    @property
    def causal(self) -> Causal | None:
        """How the features of a stream are computed, where those of a frame depend on the frames before it alone."""

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features of frames.

        Args:
            frames: RGB, `uint8[B, t, S, S, 3]` with S of `spec` and t from 1 to its T; whole clips for granularity
                `"clip"`.

        Returns:
            `float32[B, t, F]`; for granularity `"clip"`, as many steps as the extractor gives for a clip.
        """

    def classify(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities from features.

        Args:
            features: `float32[B, T, F]`.

        Returns:
            `float32[B, 2]`; a row sums to 1.
        """


class BundleScorer(StagedScorer, Protocol):
    """A scorer that says which bundle it runs.

    Attributes:
        run: Name of the run that the bundle was exported from.
        bundle_digest: SHA-256 of the bundle's manifest.
        score_histogram: Scores of clips that the run did not learn from; `None` where they are not known.
    """

    @property
    def run(self) -> str:
        """Name of the run."""

    @property
    def bundle_digest(self) -> str:
        """SHA-256 of the bundle's manifest."""

    @property
    def score_histogram(self) -> ScoreHistogram | None:
        """Scores of clips that the run did not learn from, if they are known."""


@dataclasses.dataclass(frozen=True)
class StreamScore:
    """The score of the window that ends with a stream's last frame.

    Attributes:
        probability: Probability that it shows violence.
        held: Frames that it is made of; fewer than T while the stream is shorter.
        frames: T, frames of a full window.
        version: Which version of the model has answered.
    """

    probability: float
    held: int
    frames: int
    version: int

    @property
    def is_full(self) -> bool:
        """Whether the window is full."""
        return self.held == self.frames


class KeptStream(Protocol):
    """A stream whose window somebody else keeps."""

    def push(
        self, frames: npt.NDArray[np.uint8], missing: Sequence[int] | None = None, *, last: bool = False
    ) -> StreamScore:
        """Takes the next frames and scores the window that ends with them.

        Args:
            frames: RGB, `uint8[S, S, 3]`, or `uint8[t, S, S, 3]` with t from 1 to T.
            missing: Frames that were left out before each of them, for which the one before stands; `None` for none.
            last: Whether the stream ends with them.
        """

    def clear(self) -> None:
        """Has the window begin anew with the next frame."""

    def close(self) -> None:
        """Ends the stream."""


@runtime_checkable
class StreamScorer(StagedScorer, Protocol):
    """A scorer that keeps the windows of streams, so that single frames may be sent to it.

    Attributes:
        max_streams: How many it keeps at most.
    """

    @property
    def max_streams(self) -> int:
        """How many streams it keeps at most."""

    def open(self) -> KeptStream:
        """A new stream."""


def check_features(features: npt.NDArray[np.float32]) -> None:
    """Refuses features that are no numbers: some runtimes answer them with a probability like any other.

    Raises:
        DeployError: Some are NaN or infinite.
    """
    if not np.isfinite(features).all():
        raise DeployError("the features hold values that are NaN or infinite", "extract them again")


def padded(frames: npt.NDArray[np.uint8], multiple: int) -> npt.NDArray[np.uint8]:
    """Frames for an extractor that takes a fixed number of them, the last one repeated as often as needed.

    Args:
        frames: `uint8[B, t, S, S, 3]`, t at least 1.
        multiple: What the number of frames has to be a multiple of.

    Returns:
        `uint8[B, t', S, S, 3]`.
    """
    missing = -frames.shape[1] % multiple
    return np.concatenate([frames, np.repeat(frames[:, -1:], missing, axis=1)], axis=1) if missing else frames
