"""Any video file in, ``uint8[T, H, W, 3]`` RGB frames out: the one decoder of the whole system."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

__all__ = ["ClipSpec"]


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """How a video becomes the frames that the network sees.

    Attributes:
        frames: Frames taken from a clip, T.
        size: Height and width of a frame in pixels, H = W; the aspect ratio is not kept.
        sampling: ``"uniform"``: the middle frames of T equal parts of the clip.
        interpolation: ``"area"``: pixel area averaging when shrinking, bilinear when enlarging.
    """

    frames: int = 16
    size: int = 224
    sampling: str = "uniform"
    interpolation: str = "area"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, not {self.frames}")
        if self.size < 32:
            raise ValueError(f"size must be at least 32 pixels, VGG19's smallest input, not {self.size}")
        if self.sampling != "uniform":
            raise ValueError(f"sampling must be 'uniform', not {self.sampling!r}")
        if self.interpolation != "area":
            raise ValueError(f"interpolation must be 'area', not {self.interpolation!r}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipSpec:
        """Makes a spec from what `to_dict` gave."""
        return cls(**values)

    @property
    def digest(self) -> str:
        """SHA-256 of the spec in canonical JSON; it keys the feature store."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
