"""Augmented views: changed copies of a training clip, made once and kept in the feature store.

A view follows from the hash of the clip's content, the number of the view and the settings, and from nothing else:
every training makes the same one.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from vdeploy.core.settings import Settings
from vdeploy.video.pixel_transforms import PIXEL_TRANSFORMS

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AugmentedViews"]

REVISION = 1
"""Counts changes of the transforms, and of the frames that they choose among, that change views."""


def _with_probability(value: Any) -> Any:
    return (value, 1.0) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


_Probability = Annotated[float, Field(ge=0, le=1)]
_Pair = BeforeValidator(_with_probability)
_Share = Annotated[tuple[Annotated[float, Field(ge=0, le=0.9)], _Probability], _Pair]
_Factor = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], _Probability], _Pair]
_Extent = Annotated[tuple[Annotated[float, Field(ge=0, le=100)], _Probability], _Pair]


class AugmentedViews(Settings):
    """How many changed copies of each training clip there are, and how they are made.

    A transform is given as ``(strength, probability)``; a number alone is a strength with probability 1. It is applied
    to a view with that probability, and how much it does is drawn from 0 to the strength. A strength or a probability
    of 0 switches it off.
    """

    count: int = Field(0, ge=0, le=64, description="views of each training clip beside the plain one; 0: none")
    seed: int = Field(0, ge=0, lt=2**31, description="of everything that is drawn")
    flip: _Probability = Field(0.5, description="probability that left and right are swapped")
    crop: _Share = Field((0.3, 0.5), description="share of height and width that is cut off")
    low_light: _Extent = Field((1.0, 0.2), description="gamma is 1 more")
    color: _Factor = Field((0.3, 0.5), description="change of saturation, contrast and brightness")
    blur: _Extent = Field((1.5, 0.2), description="standard deviation of a Gaussian in pixels")
    noise: _Extent = Field((10.0, 0.2), description="standard deviation in grey levels of 255")
    compression: _Factor = Field((0.8, 0.2), description="share of JPEG's quality that is lost")
    frame_rate: _Extent = Field((0.5, 0.5), description="frames lie closer in time by a factor that is 1 more")
    time_shift: _Share = Field((0.1, 0.5), description="share of the clip by which its frames move in time")
    reverse: _Probability = Field(0.0, description="probability that time runs backwards; only where labels allow it")

    @property
    def digest(self) -> str:
        """12 hex digits of all that a view depends on beside the clip and its number."""
        values = self.model_dump(mode="json", exclude={"count", "seed"})
        used = {name: value for name, value in values.items() if _is_on(value)}
        canonical = json.dumps({**used, "seed": self.seed, "revision": REVISION}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def changes_time(self) -> bool:
        """Whether views take other frames than the usual ones."""
        return bool(self.count) and (_is_on(self.frame_rate) or _is_on(self.time_shift))

    def make(self, decoded: npt.NDArray[np.uint8], frames: int, sha256: str, number: int) -> npt.NDArray[np.uint8]:
        """Make a view.

        Args:
            decoded: Frames of the clip at evenly spaced times, ``uint8[K * T, H, W, 3]``, RGB; K odd.
            frames: Frames of the view, T.
            sha256: Hash of the clip's content.
            number: Number of the view, from 0.

        Returns:
            ``uint8[T, H, W, 3]``.
        """
        draw = functools.partial(self._draw, sha256, number)
        view = decoded[_frame_numbers(len(decoded), frames, draw("frame_rate"), draw("time_shift"))]
        if draw("reverse")[0]:
            view = view[::-1]
        for name, transform in PIXEL_TRANSFORMS.items():
            strength, random = draw(name)
            if strength:
                view = transform(view, strength, random)
        return view

    def _draw(self, sha256: str, number: int, name: str) -> _Drawn:
        """The strength of a transform in a view, 0 where it is not applied, and what it draws from.

        Each transform has its own source of randomness, so that none changes what another one does.
        """
        content = f"{self.seed} {sha256} {number} {name}".encode()
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(content).digest(), "big"))
        value = getattr(self, name)
        strength, probability = value if isinstance(value, tuple) else (1.0, value)
        return (strength if random.random() < probability else 0.0), random


_Drawn = tuple[float, np.random.Generator]


def _is_on(value: float | tuple[float, float]) -> bool:
    return all(value) if isinstance(value, (tuple, list)) else bool(value)


def _frame_numbers(decoded: int, frames: int, frame_rate: _Drawn, time_shift: _Drawn) -> npt.NDArray[np.int64]:
    """Which of the decoded frames a view takes; what lies outside of the clip is its first or its last frame."""
    (closer, random), (shift, other) = frame_rate, time_shift
    times = (np.arange(frames) + 0.5) / frames
    times = 0.5 + (times - 0.5) / (1 + closer * random.random()) + shift * other.uniform(-1, 1)
    return np.clip(np.floor(times * decoded).astype(np.int64), 0, decoded - 1)
