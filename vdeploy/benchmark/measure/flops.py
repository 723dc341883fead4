"""Floating-point operations of a clip, from the manifest of a bundle or from its ONNX graphs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from vdeploy.core.errors import ExportError, MissingExtraError
from vdeploy.export.onnx.flops import count_flops

if TYPE_CHECKING:
    from vdeploy.artifacts.bundle import Artifact, Bundle, Stage
    from vdeploy.benchmark.record import Workload

__all__ = ["BundleFlops"]


class BundleFlops:
    """Operations of a bundle's stages; see `vdeploy.export.onnx.flops` for how they are counted.

    Args:
        bundle: The bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._of_stage = functools.cache(self._count)

    def per_clip(self, what: Workload) -> int | None:
        """Operations of a stage, or of both, on one clip; ``None`` where they cannot be counted.

        Args:
            what: The workload.
        """
        stages: tuple[Stage, ...] = (what,) if what in ("extractor", "classifier") else ("extractor", "classifier")
        counts = [self._of_stage(stage) for stage in stages]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def _count(self, stage: Stage) -> int | None:
        """Returns what the export has counted, or counts in an ONNX file: every format computes the same."""
        counted = next((info.flops for info in self._bundle.manifest.stages if info.id == stage), None)
        if counted is not None:
            return counted
        for artifact in self._bundle.manifest.artifacts:
            if artifact.stage == stage and artifact.format.startswith("onnx"):
                try:
                    return count_flops(self._bundle.path(artifact), self._shapes(artifact))
                except (ExportError, MissingExtraError):
                    return None
        return None

    def _shapes(self, artifact: Artifact) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs for one clip: the first axis is the batch, a further open one the frames."""
        frames = self._bundle.manifest.clip_spec.frames
        return {
            tensor.name: (1, *(axis if isinstance(axis, int) else frames for axis in tensor.shape[1:]))
            for tensor in artifact.inputs
        }
