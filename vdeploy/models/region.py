"""Where in the frame a backbone looks: the whole frame, the square in which things move, or both.

The square is computed inside the graph, from the frames that the backbone gets anyway. Files, windows of timelines,
live sources and the clips of a calibration are therefore cropped alike by every exported format and by every server,
and a client sends the frames that it would send without a crop.

Steps, for each clip by itself:

1. Grey frames, averaged over cells of a grid of about `CELLS` x `CELLS` and blurred.
2. Absolute differences of consecutive frames, less `NOISE` grey levels and less the mean over the frame, so that noise
   and a moving camera count little. Their mean over time is the motion energy of each cell.
3. The interval that holds the middle `SHARE` of the energy along each axis. Their longer side, with a margin, is the
   side of the square, at least `LEAST_SIDE` of the frame. The square is moved so that it lies within the frame.
4. The square is resampled to the size of the frame, or to `SEEN` pixels if that is less. Larger frames
   (``clip.size``) therefore cost the backbone nothing and give the square more detail.

Where nothing moves, the square is the whole frame. All steps are element-wise operations and matrix products, which
every format can express; positions are interpolated, so that rounding moves the square little.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Backbone
from vdeploy.models.multi_view import MultiViewBackbone

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.video.clips import ClipSpec

__all__ = [
    "CELLS",
    "LEAST_SIDE",
    "NOISE",
    "SEEN",
    "SHARE",
    "Region",
    "RegionBackbone",
    "crop",
    "in_region",
    "motion_square",
]

Region = Literal["full", "motion", "both"]
"""``"full"``: the whole frame. ``"motion"``: the square in which things move. ``"both"``: the features of the
whole frame and, beside them for the same step in time, those of the square."""

CELLS = 56
"""Cells of the grid along each side, where the frame is large enough."""

NOISE = 3.0
"""Grey levels by which a cell may change without counting as motion."""

SHARE = 0.9
"""Share of the motion energy that the square spans along each axis."""

LEAST_SIDE = 0.35
"""Least side of the square, as a share of the frame's."""

MARGIN = 1.15
"""What the side of the square is multiplied by."""

SEEN = 224
"""Most pixels along each side that the backbone gets."""

STILL = 0.05
"""Mean motion energy, in grey levels, below which the square grows towards the whole frame."""

_TINY = 1e-6


def in_region(backbone: Backbone[Any], region: str) -> Backbone[Any]:
    """Return a backbone that looks at a region of the frames; the backbone itself for ``"full"``.

    Raises:
        RecipeError: There is no such region.
    """
    if region not in get_args(Region):
        raise RecipeError(f"there is no region {region!r}", f"known: {', '.join(get_args(Region))}")
    return backbone if region == "full" else RegionBackbone(backbone, region)


class RegionBackbone(MultiViewBackbone):
    """A backbone that sees the square in which things move, or both that square and the whole frame.

    The square depends on all frames of a clip, so windows are scored whole whatever the granularity of the backbone is.

    Args:
        inner: The backbone.
        region: ``"motion"`` or ``"both"``.
    """

    def __init__(self, inner: Backbone[Any], region: str) -> None:
        super().__init__(inner, inner.settings)
        self.region, self.views = region, 2 if region == "both" else 1
        # What a class declares for other backbones is a matter of each instance here.
        self.name, self.title, self.settings_type = inner.name, inner.title, inner.settings_type  # type: ignore[misc]

    @property
    def cache_key(self) -> str:
        """The key of the backbone, and the region."""
        return f"{self.inner.cache_key} region={self.region}"

    @property
    def stage_settings(self) -> dict[str, Any]:
        """The settings of the backbone, and the region."""
        return {**self.inner.stage_settings, "region": self.region}

    def seen_spec(self, spec: ClipSpec) -> ClipSpec:
        """Return the clips without the pixels that the backbone does not get."""
        return dataclasses.replace(spec, size=min(spec.size, SEEN))

    def see(self, pixels: Any) -> list[Any]:
        """Return the square of each clip, and the whole frames before it for ``"both"``."""
        ops: Any = load_keras().ops
        given = pixels.shape[2]
        size = min(given, SEEN)
        left, top, side = motion_square(pixels)
        square = crop(pixels, (left, top, side), size)
        if self.region == "motion":
            return [square]
        origin = ops.zeros_like(side)
        return [pixels if size == given else crop(pixels, (origin, origin, origin + 1.0), size), square]


def motion_square(pixels: Any) -> tuple[Any, Any, Any]:
    """Find the square in which things move.

    Args:
        pixels: ``float32[B, T, S, S, 3]``, 0 to 255; B may be unknown.

    Returns:
        Left, top and side, ``float32[B, 1]`` each, as shares of the frame.
    """
    keras: Any = load_keras()
    ops = keras.ops
    frames, size = pixels.shape[1], pixels.shape[2]
    if frames == 1:
        nothing = ops.zeros_like(pixels[:, 0, 0, :1, 0])
        return nothing, nothing, nothing + 1.0
    grid = _grid(size)
    cells = grid.shape[0]
    grey = ops.mean(pixels, axis=-1)
    # The constant is the left operand: quantizers leave such products in float.
    rows = ops.matmul(grid, grey)
    grey = ops.matmul(grid, ops.transpose(rows, (0, 1, 3, 2)))  # [B, T, x, y]
    change = ops.abs(grey[:, 1:] - grey[:, :-1])
    change = ops.relu(change - ops.mean(change, axis=(2, 3), keepdims=True) - NOISE)
    energy = ops.mean(change, axis=1)
    total = ops.mean(energy, axis=(1, 2), keepdims=False)[:, None]
    left, right = _interval(ops.mean(energy, axis=2), cells)
    top, bottom = _interval(ops.mean(energy, axis=1), cells)
    side = ops.clip(MARGIN * ops.maximum(right - left, bottom - top), LEAST_SIDE, 1.0)
    moving = ops.clip(total / STILL, 0.0, 1.0)
    side = 1.0 - moving * (1.0 - side)
    return _start(left, right, side), _start(top, bottom, side), side


def crop(pixels: Any, square: tuple[Any, Any, Any], size: int) -> Any:
    """Resample a square of each clip: bilinear interpolation where it is enlarged, weighted averages where not.

    Args:
        pixels: ``float32[B, T, S, S, 3]``.
        square: What `motion_square` returned.
        size: Pixels along each side of the result, R.

    Returns:
        ``float32[B, T, R, R, 3]``.
    """
    ops: Any = load_keras().ops
    left, top, side = square
    _, frames, given, _, _ = pixels.shape
    # [B, T, row, column * 3] and then [B, T, column, row * 3], so that each axis is one matrix product.
    x = ops.reshape(pixels, (-1, frames, given, given * 3))
    x = ops.matmul(_resampling(top, side, given, size), x)
    x = ops.transpose(ops.reshape(x, (-1, frames, size, given, 3)), (0, 1, 3, 2, 4))
    x = ops.matmul(_resampling(left, side, given, size), ops.reshape(x, (-1, frames, given, size * 3)))
    return ops.transpose(ops.reshape(x, (-1, frames, size, size, 3)), (0, 1, 3, 2, 4))


def _grid(size: int) -> npt.NDArray[np.float32]:
    """The matrix that averages ``size`` pixels into cells and blurs these over three, ``[cells, size]``."""
    width = max(1, size // CELLS)
    cells = size // width
    average = np.kron(np.eye(cells), np.full((1, width), 1 / width))
    average = np.pad(average, ((0, 0), (0, size - cells * width)))
    blur = np.eye(cells, k=-1) + np.eye(cells) + np.eye(cells, k=1)
    grid: npt.NDArray[np.float32] = (blur / blur.sum(axis=1, keepdims=True) @ average).astype(np.float32)
    return grid


def _interval(energy: Any, cells: int) -> tuple[Any, Any]:
    """Where the middle `SHARE` of the energy ``[B, cells]`` begins and ends, ``[B, 1]`` each, as shares of the axis."""
    ops: Any = load_keras().ops
    share = energy / ops.maximum(ops.sum(energy, axis=1, keepdims=True), _TINY)
    below = np.tril(np.ones((cells, cells), np.float32), -1)
    before = ops.matmul(below, share[:, :, None])[:, :, 0]

    def position(quantile: float) -> Any:
        reached = ops.clip((quantile - before) / ops.maximum(share, _TINY), 0.0, 1.0)
        return ops.mean(reached, axis=1, keepdims=True)

    return position((1 - SHARE) / 2), position((1 + SHARE) / 2)


def _start(low: Any, high: Any, side: Any) -> Any:
    """Where the square begins along an axis so that it is centred on an interval and lies within the frame."""
    ops: Any = load_keras().ops
    return ops.relu(ops.minimum((low + high - side) / 2, 1.0 - side))


def _resampling(start: Any, side: Any, given: int, size: int) -> Any:
    """The matrix that resamples a part of an axis, ``[B, 1, size, given]``."""
    ops: Any = load_keras().ops
    centres = ((np.arange(size, dtype=np.float32) + 0.5) / size)[None]
    source = ops.clip((start + side * centres) * given - 0.5, 0.0, given - 1.0)
    width = ops.maximum(side * (given / size), 1.0)[:, :, None]
    distance = ops.abs(source[:, :, None] - np.arange(given, dtype=np.float32))
    weights = ops.relu(1.0 - distance / width)
    return (weights / ops.sum(weights, axis=2, keepdims=True))[:, None]
