"""Windows of many streams, extracted and scored together.

Where a frame's features do not depend on the other frames, each sampled frame goes through the extractor once. Where
they depend on the frames before it alone, a stream goes on from window to window, and begins anew where its windows do.
Where an extractor looks at a clip as a whole, as a 3-D network does, frames are kept instead and every window is scored
whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from vdeploy.timeline.causal_stream import CausalFrame, CausalStream
from vdeploy.timeline.windows import DueWindow, WindowPlan, WindowSlider

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.causal import Causal
    from vdeploy.inference.scorer import StagedScorer
    from vdeploy.timeline.events import Window

__all__ = ["Sample", "ScoredWindow", "SlidingDetector", "SlidingExtractor"]

Stream = TypeVar("Stream", bound=Hashable)


@dataclasses.dataclass(frozen=True, eq=False)
class Sample(Generic[Stream]):
    """A sampled frame of a stream.

    Attributes:
        stream: Which stream, anything hashable.
        index: Its number on the plan's grid; larger than that of the stream's sample before.
        frame: ``uint8[S, S, 3]``, RGB.
    """

    stream: Stream
    index: int
    frame: npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class ScoredWindow(Generic[Stream]):
    """A window and the stream that it belongs to.

    Attributes:
        stream: The stream.
        window: The window with its score.
        features: The mean of its features over time, ``float32[F]``, where the detector keeps them.
    """

    stream: Stream
    window: Window
    features: npt.NDArray[np.float32] | None = dataclasses.field(default=None, compare=False, repr=False)


class Extractor(Protocol):
    """Turns frames into features: a `vdeploy.inference.scorer.StagedScorer`, or one without a classifier."""

    @property
    def granularity(self) -> Literal["frame", "clip"]:
        """What it looks at as one: a frame, or a clip."""

    @property
    def causal(self) -> Causal | None:
        """How it computes streams, where features depend on the frames before alone."""

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features of frames; see `vdeploy.inference.scorer.StagedScorer`."""


class SlidingExtractor(Generic[Stream]):
    """Frames of any number of streams in, windows and their features out.

    Keeps T features a stream and no frame; for an extractor that looks at whole clips, T frames; for a causal one,
    frames whose features are still to come. Not for several threads at a time.

    Args:
        extractor: What computes features.
        plan: The windows of every stream.
        longest_gap: Sampled frames in a row that may be missing from a stream; the plan's if left out.
    """

    def __init__(self, extractor: Extractor, plan: WindowPlan, longest_gap: int | None = None) -> None:
        self._extractor, self.plan, self._longest_gap = extractor, plan, longest_gap
        self._sliders: dict[Stream, WindowSlider] = {}
        self._streams: dict[Stream, CausalStream] = {}

    def push(self, samples: Sequence[Sample[Stream]]) -> list[tuple[Stream, DueWindow]]:
        """Takes sampled frames, those of one stream in order.

        Args:
            samples: As many as are at hand: more at a time make larger batches.

        Returns:
            The windows that are complete now, those of one stream in order.
        """
        due: list[tuple[Stream, DueWindow]] = []
        for sample, value in zip(samples, self._values(samples), strict=True):
            due += [(sample.stream, window) for window in self._slider(sample).push(sample.index, value)]
        if self._extractor.causal and self._extractor.causal.stepper:
            for stream in {sample.stream for sample in samples}:
                self._streams[stream].compute()
        return due

    def end(self, stream: Stream) -> DueWindow | None:
        """Forgets a stream, which may have had no frame, and gives the window that ends with it, if one does."""
        slider = self._sliders.pop(stream, None)
        self._streams.pop(stream, None)
        return slider.finish() if slider else None

    def features(self, due: Sequence[DueWindow]) -> npt.NDArray[np.float32]:
        """The features of windows, ``float32[B, t, F]``.

        Whole windows go one at a time: the frames of one fill a CPU, those of many fill its memory.
        """
        if self._extractor.granularity == "frame":
            return np.stack([window.values for window in due])
        if self._extractor.causal:
            return np.stack([[frame.features for frame in window.values] for window in due])
        return np.concatenate([self._extractor.extract(window.values[np.newaxis]) for window in due])

    def _slider(self, sample: Sample[Stream]) -> WindowSlider:
        return self._sliders.setdefault(sample.stream, WindowSlider(self.plan, self._longest_gap))

    def _values(self, samples: Sequence[Sample[Stream]]) -> Iterator[Any]:
        """What is kept of each sample: its features, the frame, or a frame whose features may still be to come."""
        if self._extractor.granularity == "frame":
            return self._extract(samples)
        if self._extractor.causal:
            return (self._add(sample, self._extractor.causal) for sample in samples)
        return (sample.frame for sample in samples)

    def _add(self, sample: Sample[Stream], causal: Causal) -> CausalFrame:
        """A frame of a stream, which begins anew where its windows do."""
        if not self._slider(sample).continues(sample.index):
            self._streams[sample.stream] = CausalStream(causal, self._extractor, self.plan.frames)
        return self._streams[sample.stream].add(sample.frame)

    def _extract(self, samples: Sequence[Sample[Stream]]) -> Iterator[npt.NDArray[np.float32]]:
        length = self.plan.frames
        whole = len(samples) // length * length
        for part, shape in ((samples[:whole], (-1, length)), (samples[whole:], (1, -1))):
            if part:
                frames = np.stack([sample.frame for sample in part])
                features = self._extractor.extract(frames.reshape(*shape, *frames.shape[1:]))
                yield from features.reshape(len(part), -1)


class SlidingDetector(SlidingExtractor[Stream]):
    """Frames of any number of streams in, scored windows out.

    Args:
        scorer: What computes features and probabilities.
        plan: As for `SlidingExtractor`.
        longest_gap: As for `SlidingExtractor`.
        keep_features: Give the mean of its features with each window.

    Example:
        >>> detector = SlidingDetector(scorer, WindowPlan.of(scorer.spec.frames, window_s=2.0))  # doctest: +SKIP
        >>> windows = detector.feed([Sample("door", index, frame)])  # doctest: +SKIP
    """

    def __init__(
        self, scorer: StagedScorer, plan: WindowPlan, longest_gap: int | None = None, *, keep_features: bool = False
    ) -> None:
        super().__init__(scorer, plan, longest_gap)
        self.scorer, self._keep_features = scorer, keep_features

    def feed(self, samples: Sequence[Sample[Stream]]) -> list[ScoredWindow[Stream]]:
        """Takes sampled frames, and gives the windows that are complete now, scored; see `push`."""
        return self._classify(self.push(samples))

    def finish(self, stream: Stream, end_s: float | None = None) -> list[ScoredWindow[Stream]]:
        """Forgets a stream.

        Args:
            stream: The stream, which may have had no frame.
            end_s: When it ended, in seconds; its last window ends no later.

        Returns:
            The window that ends with the stream, if that was not complete before.
        """
        due = self.end(stream)
        return self._classify([(stream, due)], end_s) if due else []

    def _classify(self, due: list[tuple[Stream, DueWindow]], end_s: float | None = None) -> list[ScoredWindow[Stream]]:
        if not due:
            return []
        # Whole windows are scored whole where nobody wants their features.
        wanted = self.scorer.granularity == "frame" or self.scorer.causal is not None or self._keep_features
        features = self.features([window for _, window in due]) if wanted else None
        if features is None:
            probabilities = np.concatenate([self.scorer.score(window.values[np.newaxis]) for _, window in due])
        else:
            probabilities = self.scorer.classify(features)
        means = [None] * len(due) if features is None or not self._keep_features else features.mean(axis=1)
        return [
            ScoredWindow(stream, self.plan.window(window.first, float(row[1]), self._end_s(window, end_s)), mean)
            for (stream, window), row, mean in zip(due, probabilities, means, strict=True)
        ]

    def _end_s(self, window: DueWindow, end_s: float | None) -> float | None:
        return end_s if window.end is None else window.end / self.plan.sampled_fps
