"""A stream whose frames depend on the frames before them: what is kept of it, and its features when they are wanted."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.causal import Causal

__all__ = ["CausalFrame", "CausalStream"]


class _Extractor(Protocol):
    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features of whole clips; see `vdeploy.inference.scorer.StagedScorer`."""


class CausalFrame:
    """A frame of a stream.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: CausalStream) -> None:
        self._stream = stream
        self.computed = np.zeros(0, np.float32)

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """Its features, ``float32[F]``; they are computed now, with those of all frames so far, if they were not."""
        if not self.computed.size:
            self._stream.compute()
        return self.computed


class CausalStream:
    """Frames of a stream in, their features out: those of a clip that begins where the stream does, however long.

    Without a stepper, the extractor is given clips of T frames that begin k frames before the first frame whose
    features are wanted, as those of a frame depend on k frames before it alone. Frames after the last one, which change
    nothing, are copies of it.

    Args:
        causal: How features are computed.
        extractor: What computes whole clips.
        length: Frames of a clip, T.
    """

    def __init__(self, causal: Causal, extractor: _Extractor, length: int) -> None:
        self._causal, self._extractor, self._length = causal, extractor, length
        self._waiting: list[tuple[CausalFrame, npt.NDArray[np.uint8]]] = []
        self._before: collections.deque[npt.NDArray[np.uint8]] = collections.deque(maxlen=causal.past)
        self._buffer: npt.NDArray[np.float32] | None = None

    def add(self, frame: npt.NDArray[np.uint8]) -> CausalFrame:
        """Takes the next frame, ``uint8[S, S, 3]``."""
        added = CausalFrame(self)
        self._waiting.append((added, frame))
        if len(self._waiting) + len(self._before) == self._length:
            self.compute()
        return added

    def compute(self) -> None:
        """Computes the features of all frames that have none."""
        while self._waiting:
            part = self._waiting[: self._length - len(self._before)]
            frames = [frame for _, frame in part]
            for (one, _), features in zip(part, self._features(frames), strict=True):
                one.computed = features
            del self._waiting[: len(part)]

    def _features(self, frames: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        if self._causal.stepper:
            features, self._buffer = self._causal.stepper.step(np.stack(frames), self._buffer)
            return features
        known = len(self._before)
        clip = [*self._before, *frames]
        clip += [clip[-1]] * (self._length - len(clip))
        features = self._extractor.extract(np.stack(clip)[np.newaxis])[0, known : known + len(frames)]
        self._before.extend(frames)
        return features
