"""A network pruned from its first convolution to the last, on frames of training clips."""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.methods.pruning.activations import Activations, convolve
from training.methods.pruning.channel_graph import ChannelGraph, Group
from training.methods.pruning.reconstruction import NormalEquations, choose_channels
from training.methods.pruning.stages import STAGES, stage_of
from vdeploy.core.errors import RunError
from vdeploy.core.files import atomic_write
from vdeploy.core.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    from training.methods.pruning.activations import Floats, Layers

    Solution = tuple[npt.NDArray[np.int64], Layers]

__all__ = ["prune_layers"]

_BATCH = 8
"""Frames that a network of single frames looks at at once; of clips, it is one."""

_PATCHES = 20_000
_PATCHES_PER_UNKNOWN = 3


def prune_layers(
    graph: ChannelGraph,
    layers: Mapping[str, tuple[Floats, Floats]],
    widths: Mapping[str, int],
    frames: Sequence[npt.NDArray[np.uint8]],
    folder: Path,
    seed: int,
) -> Layers:
    """Remove channels of every convolution, and reconstruct those that read them each time.

    Args:
        graph: The network.
        layers: Kernel ``float32[..., C, O]`` and bias ``float32[O]`` of its convolutions.
        widths: Channels to keep of each.
        frames: What to learn from: ``uint8[H, W, 3]`` each, RGB, or ``uint8[T, H, W, 3]``.
        folder: Where each finished solution is kept, so that an interrupted pruning goes on after it.
        seed: Chooses the patches.

    Returns:
        Kernels and biases of the pruned network; those that were given where nothing is removed.

    Raises:
        RunError: The folder cannot be written.
    """
    original, pruned = dict(layers), dict(layers)
    if dict(widths) == graph.widths:
        return pruned
    with track("prune", sum(len(group.consumers) for group in graph.groups), "convolutions") as step:
        for stage, members in itertools.groupby(graph.groups, lambda group: stage_of(group.consumers[0])):
            groups = list(members)
            known = [_read(_file(folder, group), group) for group in groups]
            # A stage is gone through from its beginning, so that an interrupted pruning ends with the same bits.
            batches = [] if all(known) else list(_batches(graph, frames, stage, groups[0], original, pruned))
            for group, solution in zip(groups, known, strict=True):
                for batch in batches:
                    batch.advance([graph.read_by(name) for name in group.consumers], original, pruned)
                kept, solved = solution or _solve(graph, batches, group, original, widths, seed)
                if solution is None:
                    _write(_file(folder, group), (kept, solved))
                for batch in batches:
                    batch.keep(group.producers, kept)
                pruned |= {**_narrowed(pruned, group.producers, kept), **solved}
                step.advance(len(group.consumers), note=group.consumers[-1])
    return pruned


def _batches(
    graph: ChannelGraph,
    frames: Sequence[npt.NDArray[np.uint8]],
    stage: str,
    first: Group,
    original: Layers,
    pruned: Layers,
) -> Iterator[Activations]:
    """What the first convolutions of a stage read, batch by batch."""
    limit = STAGES[stage].frames
    chosen = frames if limit is None else frames[: max(1, limit // graph.per_clip)]
    size = _BATCH if graph.per_clip == 1 else 1
    for start in range(0, len(chosen), size):
        batch = Activations(graph, np.stack(chosen[start : start + size]).astype(np.float32))
        batch.advance([graph.read_by(name) for name in first.consumers], original, pruned)
        yield batch


def _solve(
    graph: ChannelGraph,
    batches: Sequence[Activations],
    group: Group,
    layers: Layers,
    widths: Mapping[str, int],
    seed: int,
) -> Solution:
    """The channels to keep of a group, and kernels and biases of its consumers with these."""
    equations = {name: _equations(graph, batches, name, layers[name], seed) for name in group.consumers}
    owners = np.concatenate([np.full(layers[name][1].size, number) for number, name in enumerate(group.producers)])
    kept = choose_channels(list(equations.values()), owners, [widths[name] for name in group.producers])
    solved = {}
    for name, each in equations.items():
        kernel, bias = each.solve(kept)
        shape = (*layers[name][0].shape[:-2], len(kept), len(bias))
        solved[name] = (kernel.transpose(1, 0, 2).reshape(shape).astype(np.float32), bias.astype(np.float32))
    return kept, solved


def _equations(
    graph: ChannelGraph, batches: Sequence[Activations], name: str, layer: tuple[Floats, Floats], seed: int
) -> NormalEquations:
    """Patches that a convolution sees in the pruned network, and what it gives there in the original one."""
    kernel, _ = layer
    *size, channels, outputs = kernel.shape
    taps, read = math.prod(size), graph.read_by(name)
    equations = NormalEquations(kernel.reshape(taps, channels, outputs).transpose(1, 0, 2))
    wanted = max(_PATCHES, _PATCHES_PER_UNKNOWN * taps * channels) / sum(len(each.pruned[read]) for each in batches)
    random = np.random.default_rng((seed, *map(ord, name)))
    for batch in batches:
        target, seen = convolve(batch.original[read], layer), batch.pruned[read]
        count, *positions, _ = seen.shape
        each = min(math.ceil(wanted), math.prod(positions))
        chosen = np.stack([random.choice(math.prod(positions), each, replace=False) for _ in range(count)])
        at = (np.arange(count)[:, None], *np.unravel_index(chosen, positions))
        padded = np.pad(seen, ((0, 0), *((side // 2, side // 2) for side in size), (0, 0)))
        shifts = ((0, *tap) for tap in np.ndindex(*size))
        moved = (tuple(axis + step for axis, step in zip(at, shift, strict=True)) for shift in shifts)
        patches = np.stack([padded[places] for places in moved], axis=-1)
        equations.add(patches.reshape(-1, channels, taps), target[at].reshape(-1, outputs))
    return equations


def _narrowed(layers: Layers, producers: Sequence[str], kept: npt.NDArray[np.int64]) -> Layers:
    """Convolutions without the outputs that are not kept of all of theirs together."""
    found, before = {}, 0
    for name in producers:
        kernel, bias = layers[name]
        own = kept[(kept >= before) & (kept < before + bias.size)] - before
        found[name] = (kernel[..., own], bias[own])
        before += bias.size
    return found


def _file(folder: Path, group: Group) -> Path:
    return folder / f"{group.consumers[0]}.npz"


def _read(file: Path, group: Group) -> Solution | None:
    """What an earlier call has written; ``None`` if there is nothing that can be read."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            solved = {name: (archive[f"{name}/kernel"], archive[f"{name}/bias"]) for name in group.consumers}
            return archive["kept"], solved
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(file: Path, solution: Solution) -> None:
    kept, solved = solution
    arrays: dict[str, Any] = {"kept": kept}
    for name, (kernel, bias) in solved.items():
        arrays |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
    try:
        with atomic_write(file) as handle:
            np.savez(handle, **arrays)
    except OSError as error:
        raise RunError(
            f"cannot write {file} ({error.strerror or error})", "free some space and run the same command again"
        ) from error
