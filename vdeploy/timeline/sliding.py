"""Windows of many streams, scored together.

Where a frame's features do not depend on the other frames, each sampled frame goes through the extractor once. Where an
extractor looks at a clip as a whole, as a 3-D network does, frames are kept instead and every window is scored whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from vdeploy.timeline.windows import DueWindow, WindowPlan, WindowSlider

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.scorer import StagedScorer
    from vdeploy.timeline.events import Window

__all__ = ["Sample", "ScoredWindow", "SlidingDetector"]

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
    """A window and the stream that it belongs to."""

    stream: Stream
    window: Window


class SlidingDetector(Generic[Stream]):
    """Frames of any number of streams in, scored windows out.

    Keeps T features a stream and no frame; for an extractor that looks at whole clips, T frames. Not for several
    threads at a time.

    Args:
        scorer: What computes features and probabilities.
        plan: The windows of every stream.
        longest_gap: Sampled frames in a row that may be missing from a stream; the plan's if left out.

    Example:
        >>> detector = SlidingDetector(scorer, WindowPlan.of(scorer.spec.frames, window_s=2.0))  # doctest: +SKIP
        >>> windows = detector.feed([Sample("door", index, frame)])  # doctest: +SKIP
    """

    def __init__(self, scorer: StagedScorer, plan: WindowPlan, longest_gap: int | None = None) -> None:
        self.scorer, self.plan = scorer, plan
        self._longest_gap = longest_gap
        self._sliders: dict[Stream, WindowSlider] = {}

    def feed(self, samples: Sequence[Sample[Stream]]) -> list[ScoredWindow[Stream]]:
        """Takes sampled frames, those of one stream in order.

        Args:
            samples: As many as are at hand: more at a time make larger batches.

        Returns:
            The windows that are complete now, those of one stream in order.
        """
        due: list[tuple[Stream, DueWindow]] = []
        for sample, value in zip(samples, self._values(samples), strict=True):
            slider = self._sliders.setdefault(sample.stream, WindowSlider(self.plan, self._longest_gap))
            due += [(sample.stream, window) for window in slider.push(sample.index, value)]
        return self._classify(due)

    def finish(self, stream: Stream, end_s: float | None = None) -> list[ScoredWindow[Stream]]:
        """Forgets a stream.

        Args:
            stream: The stream, which may have had no frame.
            end_s: When it ended, in seconds; its last window ends no later.

        Returns:
            The window that ends with the stream, if that was not complete before.
        """
        slider = self._sliders.pop(stream, None)
        due = slider.finish() if slider else None
        return self._classify([(stream, due)], end_s) if due else []

    def _values(self, samples: Sequence[Sample[Stream]]) -> Iterator[npt.NDArray[Any]]:
        """What is kept of each sample: its features, or the frame."""
        if self.scorer.granularity == "clip":
            return (sample.frame for sample in samples)
        return self._extract(samples)

    def _extract(self, samples: Sequence[Sample[Stream]]) -> Iterator[npt.NDArray[np.float32]]:
        length = self.plan.frames
        whole = len(samples) // length * length
        for part, shape in ((samples[:whole], (-1, length)), (samples[whole:], (1, -1))):
            if part:
                frames = np.stack([sample.frame for sample in part])
                features = self.scorer.extract(frames.reshape(*shape, *frames.shape[1:]))
                yield from features.reshape(len(part), -1)

    def _classify(self, due: list[tuple[Stream, DueWindow]], end_s: float | None = None) -> list[ScoredWindow[Stream]]:
        if not due:
            return []
        if self.scorer.granularity == "clip":
            # One at a time: the frames of a window fill a CPU, those of many fill its memory.
            probabilities = np.concatenate([self.scorer.score(window.values[np.newaxis]) for _, window in due])[:, 1]
        else:
            probabilities = self.scorer.classify(np.stack([window.values for _, window in due]))[:, 1]
        return [
            ScoredWindow(stream, self.plan.window(window.first, float(probability), self._end_s(window, end_s)))
            for (stream, window), probability in zip(due, probabilities, strict=True)
        ]

    def _end_s(self, window: DueWindow, end_s: float | None) -> float | None:
        return end_s if window.end is None else window.end / self.plan.sampled_fps
