"""Scoring clips in this process, from a bundle."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.artifacts.bundle import Bundle
from vdeploy.inference.causal import Causal, Stepper
from vdeploy.inference.runtimes.registry import choose_format, open_artifact
from vdeploy.inference.scorer import check_features, padded

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LocalScorer"]


class LocalScorer:
    """Both stages of a bundle, run one after the other; a `vdeploy.inference.scorer.StagedScorer`.

    Args:
        bundle: The bundle.
        format_name: The format to run; left out, the first of the table that the bundle holds.
        threads: Threads for one call; all available cores if left out.
        runtime: Another runtime than the format's own; see `vdeploy.inference.runtimes.registry.open_runtime`.
        classifier_format: The classifier's format where it is another one.

    Attributes:
        format_name: The format that runs, the extractor's where the two differ.

    Raises:
        BundleError: The bundle does not hold the format, or its runtime cannot load it.
        MissingExtraError: The runtime is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        format_name: str | None = None,
        threads: int | None = None,
        runtime: str | None = None,
        *,
        classifier_format: str | None = None,
    ) -> None:
        self.spec = bundle.manifest.clip_spec
        self.clip_seconds = bundle.manifest.clip_seconds
        self.granularity = bundle.manifest.extractor.granularity
        self.classes = bundle.manifest.classes
        self.threshold = bundle.manifest.threshold
        self.run, self.bundle_digest = bundle.manifest.run, bundle.manifest.digest
        self.score_histogram = bundle.manifest.score_histogram
        self.format_name = choose_format(bundle, format_name)
        length = bundle.artifact("extractor", self.format_name).inputs[0].shape[1]
        self._clip_length = length if isinstance(length, int) else 1
        self.causal: Causal | None = None
        if past := bundle.manifest.past_frames:
            self.causal = Causal(past, _stepper(bundle, self.format_name, threads, runtime))
        self._extractor = open_artifact(bundle, "extractor", self.format_name, threads, runtime)
        self._classifier = open_artifact(bundle, "classifier", classifier_format or self.format_name, threads, runtime)

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features of clips, one clip after the other: a clip's frames fill a CPU, more only fill its memory.

        Args:
            frames: ``uint8[B, t, H, W, 3]``, RGB, t from 1 to T.

        Returns:
            ``float32[B, t, F]``.
        """
        whole = padded(frames, self._clip_length)
        features = np.concatenate([self._extractor.infer({"frames": clip[np.newaxis]})["features"] for clip in whole])
        return features if self.granularity == "clip" else features[:, : frames.shape[1]]

    def classify(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities from features.

        Args:
            features: ``float32[B, T, F]``.

        Returns:
            ``float32[B, 2]``.

        Raises:
            DeployError: Some features are NaN or infinite.
        """
        check_features(features)
        return self._classifier.infer({"features": features})["probabilities"]

    def score(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities from frames; see `vdeploy.inference.scorer.Scorer`."""
        return self.classify(self.extract(frames))


def _stepper(bundle: Bundle, format_name: str, threads: int | None, runtime: str | None) -> Stepper | None:
    """What computes a causal extractor frame by frame, where the bundle holds it in the format."""
    form = bundle.manifest.stream
    if form is None or form.format != format_name:
        return None
    opening = functools.partial(open_artifact, bundle, "stream", format_name, threads, runtime)
    return Stepper(opening, int(form.inputs[1].shape[1]))
