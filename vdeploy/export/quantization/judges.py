"""Judges of quantized models: they run a candidate on held-out clips and compare it with the run in Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.progress import track
from vdeploy.export.calibration import ClipSet
from vdeploy.export.onnx.activations import observe
from vdeploy.export.quantization.agreement import Agreement, measure_agreement
from vdeploy.video.wanted_frames import frame_indices

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["QUICK_CLIPS", "HeldOut"]

QUICK_CLIPS = 20
"""Clips for a first look at a candidate."""


class HeldOut:
    """Held-out clips, and what the run says of them.

    Args:
        clips: The clips.
        features: The reference's features of them, ``float32[N, T, F]``.
        classify: The reference's classifier: ``float32[N, T, F]`` to ``float32[N, 2]``.
        threshold: Probability from which a clip counts as violent.
    """

    def __init__(
        self,
        clips: ClipSet,
        features: npt.NDArray[np.float32],
        classify: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
        threshold: float,
    ) -> None:
        self._clips = clips
        self._features = features
        self._classify = classify
        self._probabilities = classify(features)
        self._threshold = threshold

    def judge_extractor(self, model: onnx.ModelProto, quick: bool) -> Agreement:
        """Runs an extractor on the clips' frames; its features go to the reference's classifier.

        Args:
            model: The candidate.
            quick: Look at `QUICK_CLIPS` of the clips only.
        """
        chosen = self._choose(quick)
        feeds = ({"frames": frames} for frames in self._clips.at(chosen).frames())
        found = []
        with track("judge the extractor", len(chosen), "clips") as step:
            for outputs in observe(model, ["features"], feeds):
                found.append(outputs["features"])
                step.advance()
        features = np.concatenate(found)
        return self._compare(chosen, features, self._features[chosen], self._classify(features))

    def judge_classifier(self, model: onnx.ModelProto, quick: bool) -> Agreement:
        """Runs a classifier on the clips' features.

        Args:
            model: The candidate.
            quick: Look at `QUICK_CLIPS` of the clips only.
        """
        chosen = self._choose(quick)
        outputs = next(observe(model, ["probabilities"], [{"features": self._features[chosen]}]))
        probabilities = outputs["probabilities"]
        return self._compare(chosen, probabilities, self._probabilities[chosen], probabilities)

    def _choose(self, quick: bool) -> list[int]:
        count = len(self._clips)
        return frame_indices(count, min(QUICK_CLIPS, count)) if quick else list(range(count))

    def _compare(
        self,
        chosen: list[int],
        outputs: npt.NDArray[np.float32],
        expected: npt.NDArray[np.float32],
        probabilities: npt.NDArray[np.float32],
    ) -> Agreement:
        return measure_agreement(
            outputs,
            expected,
            probabilities,
            self._probabilities[chosen],
            self._clips.labels[chosen],
            threshold=self._threshold,
        )
