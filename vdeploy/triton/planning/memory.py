"""The memory that an extractor takes on the CPU, computed from its graph, and the largest batch that fits.

Measured with ONNX Runtime 1.32 by `python -m benchmarks.extractor_memory`: its memory arena grows by doubling and keeps
what it has, which comes to 2.1 (EfficientNet-Lite0) to 2.7 times (I3D) the activations; without the arena they are
given back after each call, and the peak is a tenth above them. Weights count as the file has them, and as kernels pack
them. The Python backend runs a clip at a time, Triton's own ONNX Runtime whole batches.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from vdeploy.artifacts.onnx_graphs.memory import GraphMemory, memory_of
from vdeploy.core.errors import BundleError, MissingExtraError
from vdeploy.triton.planning.checks import Check
from vdeploy.triton.repository.backends import common_batch
from vdeploy.triton.repository.serving_plan import ServingPlan

__all__ = ["check_memory", "fit_memory", "needed_bytes", "process_bytes", "usable_memory"]

SERVER_BYTES = 150 * 10**6
"""The server itself, and the classifier."""
RUNTIME_BYTES = 60 * 10**6
"""A runtime that has loaded nothing."""

ARENA_FACTOR, ARENA_BYTES = 2.3, 20 * 10**6
PLAIN_FACTOR, PLAIN_BYTES = 1.1, 90 * 10**6
"""Peak by bytes of activations, and beside them, with the arena and without."""

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def usable_memory(limits: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """Bytes of memory of this machine, or of this container where it has less.

    Args:
        limits: Files in which the kernel has the container's limit.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in limits:
        try:
            found.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # there is no such file, or it says `max`
    return min(found)


def process_bytes(memory: GraphMemory, clips: int, *, arena: bool) -> int:
    """Peak of a process that runs a graph.

    Args:
        memory: What the graph takes for one clip.
        clips: Clips in one call.
        arena: Whether ONNX Runtime's memory arena is on.
    """
    factor, rest = (ARENA_FACTOR, ARENA_BYTES) if arena else (PLAIN_FACTOR, PLAIN_BYTES)
    weights = memory.weight_bytes + memory.packed_bytes
    return RUNTIME_BYTES + weights + round(factor * clips * memory.peak_bytes) + rest


def needed_bytes(plan: ServingPlan, memory: GraphMemory) -> int:
    """Peak of a server that serves a plan.

    Args:
        plan: The plan.
        memory: What the extractor's graph takes for one clip.
    """
    is_python = plan.extractor.backend == "python"
    clips = 1 if is_python else common_batch(plan.stages, plan.options.max_batch)
    of_instance = process_bytes(memory, clips, arena=is_python or plan.options.arena)
    keeps_frames = plan.extractor.has_stream and plan.options.streams and plan.options.streams.limit
    # The streaming form beside it is given as many frames as a clip has, at most a few more.
    of_streams = process_bytes(memory, 1, arena=True) if keeps_frames else 0
    return SERVER_BYTES + plan.options.instances * of_instance + of_streams


def fit_memory(plan: ServingPlan, limit: int | None) -> ServingPlan:
    """Keeps Triton's own ONNX Runtime within a limit: without the arena, and with smaller batches where none was named.

    Args:
        plan: The plan.
        limit: Bytes that the server may take; `None` where they are not known. The plan's own limit goes before.

    Returns:
        The plan, changed where it does not fit as it is; one that does not fit anyhow is left to `check_memory`.
    """
    memory, limit = _memory_of(plan), _limit(plan, limit)
    if plan.extractor.backend != "onnxruntime" or isinstance(memory, str) or limit is None:
        return plan
    batch = common_batch(plan.stages, plan.options.max_batch)
    smaller = [] if plan.options.max_batch is not None else [batch >> step for step in range(1, batch.bit_length())]
    for arena, clips in ((plan.options.arena, batch), (False, batch), *((False, clips) for clips in smaller)):
        chosen = plan.options.max_batch if clips == batch else clips
        changed = dataclasses.replace(plan, options=dataclasses.replace(plan.options, arena=arena, max_batch=chosen))
        if needed_bytes(changed, memory) <= limit:
            return changed
    return plan


def check_memory(plan: ServingPlan, limit: int | None) -> Check:
    """Checks that a plan fits a limit; see `fit_memory`."""
    memory, limit = _memory_of(plan), _limit(plan, limit)
    if isinstance(memory, str):
        return Check("memory", True, f"what the extractor needs is not known: {memory}")
    options, needed = plan.options, needed_bytes(plan, memory)
    how = f"{options.instances} instance{'s' if options.instances > 1 else ''} of the extractor"
    if plan.extractor.backend == "onnxruntime":
        how += f", batches of {common_batch(plan.stages, options.max_batch)}"
        how += "" if options.arena else ", no memory arena"
    detail = f"{needed / 1e9:.1f} GB needed ({how})"
    if limit is None:
        return Check("memory", True, f"{detail}; what the server has is not known, give it with --memory-gb")
    smaller = "" if plan.extractor.backend == "python" else "a smaller --max-batch, --backend python, "
    remedy = f"choose {smaller}fewer --instances, or allow more with --memory-gb"
    return Check("memory", needed <= limit, f"{detail}, {limit / 1e9:.1f} GB at most", remedy)


def _limit(plan: ServingPlan, otherwise: int | None) -> int | None:
    return otherwise if plan.options.memory_gb is None else round(plan.options.memory_gb * 1e9)


def _memory_of(plan: ServingPlan) -> GraphMemory | str:
    """What the graph takes for a clip, or why that is not known."""
    if plan.options.gpus or not plan.extractor.format.startswith("onnx-"):
        return "it is computed for ONNX files on the CPU"
    artifact, spec = plan.artifact(plan.extractor), plan.bundle.manifest.clip_spec
    shape = (1, spec.frames, spec.size, spec.size, 3)
    try:
        found = memory_of(plan.bundle.path(artifact), {artifact.inputs[0].name: shape})
    except (MissingExtraError, BundleError) as error:
        return error.message
    return found or "its shapes are only known when it runs"
