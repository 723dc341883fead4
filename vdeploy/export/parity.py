"""Parity: does an exported file compute what the reference computes? Names, shapes, then values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.bundle import Parity, TensorSpec
from vdeploy.errors import ParityError
from vdeploy.formats import Format

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.runtimes.base import Runtime

__all__ = ["check_parity", "synthetic_frames"]


def synthetic_frames(clips: int, frames: int, size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Structured frames for parity checks without data: moving gradients and blocks of distinct colours, some noise.

    Every channel, every corner and every moment differs, so that swapped channels, axes or frames show.

    Args:
        clips: B.
        frames: T.
        size: H = W.
        seed: Seed of colours and noise.

    Returns:
        ``uint8[B, T, H, W, 3]``.
    """
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, size, dtype=np.float32)
    result = np.empty((clips, frames, size, size, 3), np.uint8)
    for clip in range(clips):
        base = np.stack(
            [np.tile(ramp, (size, 1)), np.tile(ramp[::-1, None], (1, size)), np.full((size, size), 60.0)], -1
        )
        base = base[..., random.permutation(3)]
        colour, top, left = random.uniform(0, 255, 3), *random.integers(0, size // 2, 2)
        for time in range(frames):
            frame = base + random.normal(0, 8, base.shape)
            shift = time * size // (2 * frames)
            frame[top : top + size // 3, left + shift : left + shift + size // 4] = colour
            result[clip, time] = frame.clip(0, 255)
    return result


def check_parity(
    kind: Format,
    runtime: Runtime,
    reference: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
    inputs: npt.NDArray[Any],
    *,
    tensors: tuple[TensorSpec, TensorSpec],
    batches: Sequence[int] = (1, 3),
) -> Parity:
    """Compares an exported file with the reference.

    Args:
        kind: The format, whose tolerance applies.
        runtime: The exported file, loaded from disk.
        reference: The same stage in Keras.
        inputs: Input of the stage, at least as many rows as the largest batch.
        tensors: The stage's input and output.
        batches: Batch sizes to try.

    Returns:
        The differences that were found.

    Raises:
        ParityError: A name or shape is wrong, a value is not a number, or the difference is beyond the tolerance.
    """
    source, target = tensors
    max_abs, scale = 0.0, 0.0
    for batch in batches:
        expected = reference(inputs[:batch])
        outputs = runtime.infer({source.name: inputs[:batch]})
        if target.name not in outputs:
            raise _refusal(kind, f"the output is called {', '.join(outputs)}, not {target.name}")
        actual = outputs[target.name]
        if actual.shape != expected.shape:
            shapes = f"{list(actual.shape)}, not {list(expected.shape)}"
            raise _refusal(kind, f"{target.name} has shape {shapes} at batch {batch}")
        if not np.isfinite(actual).all():
            raise _refusal(kind, f"{target.name} holds NaN or infinity at batch {batch}")
        max_abs = max(max_abs, float(np.abs(actual - expected).max()))
        scale = max(scale, float(np.abs(expected).max()))
    max_rel = max_abs / scale if scale else max_abs
    if max_rel > kind.tolerance:
        off = f"by {max_rel:.2g} of its largest value, more than {kind.tolerance:g}"
        raise _refusal(kind, f"{target.name} differs from Keras {off}")
    return Parity(reference="keras", batches=tuple(batches), max_abs=max_abs, max_rel=max_rel, tolerance=kind.tolerance)


def _refusal(kind: Format, what: str) -> ParityError:
    return ParityError(
        f"{kind.name}: {what}", "the artifact was not written; report this with the versions of vdeploy doctor"
    )
