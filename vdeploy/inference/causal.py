"""Features of streams where those of a frame depend on the frames before it, and on no later one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.runtimes.base import Runtime

__all__ = ["Causal", "ClipsAsStreams", "Stepper"]


class Stepper:
    """Computes the features of a stream's next frames, each frame once; a buffer holds what comes before them.

    Args:
        open_runtime: Loads the streaming form of the extractor, see `vdeploy.models.shift_stream.ShiftStream`; called
            with the first frame.
        length: Values of the buffer, D.
    """

    def __init__(self, open_runtime: Callable[[], Runtime], length: int) -> None:
        self._open_runtime = open_runtime
        self._start = np.zeros((1, length), np.float32)

    @functools.cached_property
    def _runtime(self) -> Runtime:
        return self._open_runtime()

    def step(
        self, frames: npt.NDArray[np.uint8], buffer: npt.NDArray[np.float32] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Compute the features of the next frames.

        Args:
            frames: ``uint8[t, S, S, 3]``, RGB, t at least 1.
            buffer: What the frames before have left; ``None`` at the start of a stream.

        Returns:
            ``float32[t, F]``, and the buffer for the frames after them.
        """
        before = self._start if buffer is None else buffer
        found = self._runtime.infer({"frames": frames[np.newaxis], "buffer": before})
        return found["features"][0], found["next_buffer"]


@dataclasses.dataclass(frozen=True)
class Causal:
    """How the features of a stream are computed.

    Attributes:
        past: How many frames before a frame its features depend on, k.
        stepper: What computes each frame once; ``None`` where whole clips have to do: their first k frames are repeated
            from the clip before.
    """

    past: int
    stepper: Stepper | None = None


class ClipsAsStreams:
    """A `vdeploy.inference.runtimes.base.Runtime` of whole clips that computes them as streams, frame by frame.

    Args:
        stepper: What computes them.
    """

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Compute ``features float32[B, T, F]`` of ``frames uint8[B, T, S, S, 3]``."""
        return {"features": np.stack([self._features(clip) for clip in inputs["frames"]])}

    def _features(self, clip: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        found, buffer = [], None
        for frame in clip:
            features, buffer = self._stepper.step(frame[np.newaxis], buffer)
            found.append(features)
        return np.concatenate(found)
