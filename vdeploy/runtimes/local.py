"""Scoring clips in this process, from a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vdeploy.bundle import Bundle, Stage
from vdeploy.errors import BundleError
from vdeploy.runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.runtimes.base import Runtime

__all__ = ["LocalScorer"]


class LocalScorer:
    """Both stages of a bundle, run one after the other; a `vdeploy.scoring.Scorer`.

    Args:
        bundle: The bundle.
        format_name: The format to run.
        threads: Threads for one call; all available cores if left out.
    """

    def __init__(self, bundle: Bundle, format_name: str = "onnx-fp32", threads: int | None = None) -> None:
        self.spec = bundle.manifest.clip_spec
        self.classes = bundle.manifest.classes
        self.threshold = bundle.manifest.threshold
        self._extractor = _load(bundle, "extractor", format_name, threads)
        self._classifier = _load(bundle, "classifier", format_name, threads)

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features of clips, one clip after the other: a clip's frames fill a CPU, more only fill its memory.

        Args:
            frames: ``uint8[B, T, H, W, 3]``, RGB.

        Returns:
            ``float32[B, T, F]``.
        """
        return np.concatenate([self._extractor.infer({"frames": clip[np.newaxis]})["features"] for clip in frames])

    def classify(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities from features.

        Args:
            features: ``float32[B, T, F]``.

        Returns:
            ``float32[B, 2]``.
        """
        return self._classifier.infer({"features": features})["probabilities"]

    def score(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities from frames; see `vdeploy.scoring.Scorer`."""
        return self.classify(self.extract(frames))


def _load(bundle: Bundle, stage: Stage, format_name: str, threads: int | None) -> Runtime:
    artifact = bundle.artifact(stage, format_name)
    if not artifact.format.startswith("onnx"):
        raise BundleError(f"{artifact.format} cannot be run in process", "choose an ONNX format")
    return OnnxRuntime(bundle.path(artifact), threads)
