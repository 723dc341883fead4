"""Sampling of live frames by the time at which they arrive."""

from __future__ import annotations

__all__ = ["ArrivalSampler"]


class ArrivalSampler:
    """Numbers the frames to take: the first one in each part of a second that the sampling rate gives.

    Time begins with the first frame, and goes on while a source is opened again.

    Args:
        sampled_fps: Sampled frames a second.
        origin_s: When time began, if it has.

    Attributes:
        sampled_fps: Sampled frames a second.
        origin_s: When the first frame arrived; ``None`` before it has.
    """

    def __init__(self, sampled_fps: float, origin_s: float | None = None) -> None:
        self.sampled_fps, self.origin_s = sampled_fps, origin_s
        self._index = -1

    def take(self, arrived_s: float) -> int | None:
        """The number of a frame, or ``None`` if its part of a second has one.

        Args:
            arrived_s: When it arrived, on a clock that does not go back.
        """
        if self.origin_s is None:
            self.origin_s = arrived_s
        index = int((arrived_s - self.origin_s) * self.sampled_fps)
        if index <= self._index:
            return None
        self._index = index
        return index
