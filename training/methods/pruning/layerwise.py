"""VGG19 pruned from the first convolution to the last, on frames of training clips."""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.methods.pruning.reconstruction import NormalEquations
from vdeploy.core.errors import RunError
from vdeploy.core.files import atomic_write
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.core.progress import track
from vdeploy.models.backbones.vgg19.feature_layers import CONVOLUTIONS
from vdeploy.models.backbones.vgg19.model import IMAGENET_MEAN_RGB

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Layers = dict[str, tuple[Floats, Floats]]

__all__ = ["prune_layers"]

_FRAMES = {"block1": 32, "block2": 64, "block3": 128}
"""How many frames a block looks at at most, where maps are large and weights are few."""

_BATCH = 8
_PATCHES = 20_000
_PATCHES_PER_UNKNOWN = 3


def prune_layers(
    layers: Mapping[str, tuple[Floats, Floats]],
    widths: Mapping[str, int],
    frames: npt.NDArray[np.uint8],
    folder: Path,
    seed: int,
) -> Layers:
    """Remove channels of every convolution, and reconstruct the next one each time.

    Args:
        layers: Kernel ``float32[3, 3, C, O]`` and bias ``float32[O]`` of VGG19's convolutions; the first takes RGB.
        widths: Channels to keep of each.
        frames: ``uint8[N, H, W, 3]``, RGB, to learn from.
        folder: Where each finished convolution is kept, so that an interrupted pruning goes on after it.
        seed: Chooses the patches.

    Returns:
        Kernels and biases of the pruned network; those that were given where nothing is removed.

    Raises:
        RunError: The folder cannot be written.
    """
    original, pruned = dict(layers), dict(layers)
    if dict(widths) == CONVOLUTIONS:
        return pruned
    before = ""
    with track("prune", len(CONVOLUTIONS), "convolutions") as step:
        for block, group in itertools.groupby(CONVOLUTIONS, lambda name: name.partition("_")[0]):
            names = list(group)
            known = {name: _read(folder / f"{name}.npz") for name in names}
            # A block is gone through from its beginning, so that an interrupted pruning ends with the same bits.
            batches = [] if all(known.values()) else list(_activations(original, pruned, frames, block))
            for name in names:
                if before:
                    solution = known[name]
                    if solution is None:
                        solution = _solve(batches, original[name], widths[before], (seed, *map(ord, name)))
                        _write(folder / f"{name}.npz", solution)
                    kept, kernel, bias = solution
                    batches = [(one, other[..., kept]) for one, other in batches]
                    pruned[before] = (pruned[before][0][..., kept], pruned[before][1][kept])
                    pruned[name] = (kernel, bias)
                batches = [
                    (_relu(_convolve(one, original[name])), _relu(_convolve(other, pruned[name])))
                    for one, other in batches
                ]
                before = name
                step.advance(1, note=name)
    return pruned


def _activations(
    original: Layers, pruned: Layers, frames: npt.NDArray[np.uint8], block: str
) -> Iterator[tuple[Floats, Floats]]:
    """What enters a block in both networks, batch by batch.

    Args:
        original: The original network.
        pruned: The network pruned so far.
        frames: ``uint8[N, H, W, 3]``.
        block: The block.
    """
    frames = frames[: _FRAMES.get(block)]
    for start in range(0, len(frames), _BATCH):
        pixels = frames[start : start + _BATCH].astype(np.float32) - np.array(IMAGENET_MEAN_RGB, np.float32)
        both = []
        for network in (original, pruned):
            x = pixels
            for earlier, names in itertools.groupby(CONVOLUTIONS, lambda name: name.partition("_")[0]):
                if earlier == block:
                    break
                for name in names:
                    x = _relu(_convolve(x, network[name]))
                x = load_tensorflow().nn.max_pool2d(x, 2, 2, "VALID").numpy()
            both.append(x)
        yield both[0], both[1]


def _solve(
    batches: list[tuple[Floats, Floats]], layer: tuple[Floats, Floats], keep: int, seed: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """The input channels to keep of a convolution, and its kernel and bias with these."""
    kernel, _ = layer
    _, _, channels, outputs = kernel.shape
    equations = NormalEquations(kernel.reshape(9, channels, outputs).transpose(1, 0, 2))
    wanted = max(_PATCHES, _PATCHES_PER_UNKNOWN * 9 * channels) / sum(len(x) for x, _ in batches)
    random = np.random.default_rng(seed)
    for one, other in batches:
        target = _convolve(one, layer)
        count, height, width, _ = other.shape
        places = min(math.ceil(wanted), height * width)
        chosen = np.stack([random.choice(height * width, places, replace=False) for _ in range(count)])
        rows, columns = np.divmod(chosen, width)
        frame = np.arange(count)[:, None]
        padded = np.pad(other, ((0, 0), (1, 1), (1, 1), (0, 0)))
        patches = np.stack([padded[frame, rows + tap // 3, columns + tap % 3] for tap in range(9)], axis=-1)
        equations.add(patches.reshape(-1, channels, 9), target[frame, rows, columns].reshape(-1, outputs))
    kept = equations.choose(keep)
    found, bias = equations.solve(kept)
    kernel = found.transpose(1, 0, 2).reshape(3, 3, keep, outputs)
    return kept, kernel.astype(np.float32), bias.astype(np.float32)


def _convolve(x: Floats, layer: tuple[Floats, Floats]) -> Floats:
    tf: Any = load_tensorflow()
    result: Floats = tf.nn.bias_add(tf.nn.conv2d(x, layer[0], 1, "SAME"), layer[1]).numpy()
    return result


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0, out=x)


def _read(file: Path) -> tuple[npt.NDArray[np.int64], Floats, Floats] | None:
    """What an earlier call has written; ``None`` if there is nothing that can be read."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return archive["kept"], archive["kernel"], archive["bias"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(file: Path, solution: tuple[npt.NDArray[np.int64], Floats, Floats]) -> None:
    kept, kernel, bias = solution
    try:
        with atomic_write(file) as handle:
            np.savez(handle, kept=kept, kernel=kernel, bias=bias)
    except OSError as error:
        raise RunError(
            f"cannot write {file} ({error.strerror or error})", "free some space and run the same command again"
        ) from error
