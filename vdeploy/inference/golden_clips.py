"""The golden clips that a deployment of a bundle is proven with, and how exactly its formats must meet them."""

from __future__ import annotations

import dataclasses

from vdeploy.artifacts.bundle import Artifact, Bundle
from vdeploy.artifacts.bundle.golden import GOLDEN, TOLERANCE, GoldenClips
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.errors import BundleError
from vdeploy.inference.in_process import LocalScorer

__all__ = ["golden_clips_of"]

_SYNTHETIC_CLIPS = 3

_TOLERANCES = {"fp32": TOLERANCE, "fp16": 1e-2}
_COARSE_TOLERANCE = 5e-2
"""For eight bits: 256 steps an activation shift every probability a little."""


def golden_clips_of(bundle: Bundle, extractor: str, classifier: str) -> GoldenClips:
    """The bundle's own golden clips; for an older bundle without any, synthetic frames scored in this process.

    Args:
        bundle: The bundle.
        extractor: Format of the extractor that is deployed.
        classifier: Format of the classifier that is deployed.

    Returns:
        The clips, with the tolerance of these formats: that of the coarser one, and on top of it how far both were
        found off on the bundle's held-out clips, the golden ones among them.

    Raises:
        BundleError: The bundle does not hold a format, or its golden clips are for other frames.
        MissingExtraError: Scoring in this process needs a runtime that is not installed.
    """
    artifacts = (bundle.artifact("extractor", extractor), bundle.artifact("classifier", classifier))
    golden = GoldenClips.load(bundle.root / GOLDEN) if GOLDEN in bundle.manifest.documents else None
    if golden is None:
        golden = _scored_here(bundle, extractor, classifier)
    spec = bundle.manifest.clip_spec
    if golden.frames.shape[1:] != (spec.frames, spec.size, spec.size, 3) or not len(golden):
        raise BundleError(
            f"{bundle.root / GOLDEN} holds frames {list(golden.frames.shape)}, not those of the bundle",
            "export the run again",
        )
    return dataclasses.replace(golden, tolerance=_tolerance(artifacts))


def _scored_here(bundle: Bundle, extractor: str, classifier: str) -> GoldenClips:
    spec = bundle.manifest.clip_spec
    frames = synthetic_frames(_SYNTHETIC_CLIPS, spec.frames, spec.size)
    scorer = LocalScorer(bundle, extractor, classifier_format=classifier)
    return GoldenClips(frames, scorer.score(frames), "synthetic frames, scored in process")


def _tolerance(artifacts: tuple[Artifact, ...]) -> float:
    coarsest = max(_TOLERANCES.get(artifact.precision, _COARSE_TOLERANCE) for artifact in artifacts)
    return coarsest + sum(artifact.held_out.drift_max for artifact in artifacts if artifact.held_out is not None)
