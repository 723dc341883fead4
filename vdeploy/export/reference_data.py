"""What all formats of an export are calibrated on and compared with; each part is computed once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.bundle.golden import GoldenClips
from vdeploy.artifacts.bundle.manifest import Calibration, Stage
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.progress import say
from vdeploy.export.calibration import CALIBRATION_CLIPS, ClipSet, calibration_clips, held_out_clips
from vdeploy.export.decoded_clips import DecodedClips
from vdeploy.export.options import ExportOptions
from vdeploy.export.quantization import HeldOut
from vdeploy.export.verification.held_out import HeldOutClips, find_clips
from vdeploy.export.verification.reference import Reference

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ReferenceData"]

_FRAMES_PER_CLIP = 1
"""Frames of a clip are alike; more clips tell more about the range of a tensor. A backbone of whole clips takes all."""

_PARITY_CLIPS = 3


class ReferenceData:
    """Inputs from the run's clips, and what the run answers to them.

    Args:
        reference: The run in Keras.
        options: The user's choices.
        folder: A folder that lives as long as the export; decoded frames are kept there.
        limit: Held-out clips to judge formats on; ``None`` for all.

    Attributes:
        reference: The run in Keras.
        held_out: Held-out clips; ``None`` where the run's clips are gone: synthetic frames, no verdicts.
        inputs: Inputs of each stage that parity is checked on.
        expected: What the run answers to them.
    """

    def __init__(self, reference: Reference, options: ExportOptions, folder: Path, limit: int | None) -> None:
        self.reference = reference
        self._options = options
        self._decoded = DecodedClips(reference.spec, folder / "frames")
        self.held_out = self._find_held_out(limit)
        spec = reference.spec
        frames = (
            synthetic_frames(_PARITY_CLIPS, spec.frames, spec.size)
            if self.held_out is None
            else np.stack(list(self.held_out.frames(_PARITY_CLIPS)))
        )
        features = np.concatenate([reference.compute("extractor", clip[np.newaxis]) for clip in frames])
        probabilities = reference.compute("classifier", features)
        self.inputs: dict[Stage, npt.NDArray[Any]] = {"extractor": frames, "classifier": features, "pipeline": frames}
        self.expected: dict[Stage, npt.NDArray[np.float32]] = {
            "extractor": features,
            "classifier": probabilities,
            "pipeline": probabilities,
        }

    def golden(self) -> GoldenClips:
        """The clips that a deployment is proven with, and what Keras says of them."""
        source = "synthetic frames" if self.held_out is None else f"held-out clips ({self.held_out.split} split)"
        return GoldenClips(self.inputs["pipeline"], self.expected["pipeline"], source)

    def calibration_inputs(self, stage: Stage) -> Iterator[npt.NDArray[Any]]:
        """Inputs of a stage from training clips: ``uint8[1, 1, H, W, 3]`` frames or ``float32[1, t, F]`` features.

        For a backbone that looks at whole clips, all frames of a clip: ``uint8[1, T, H, W, 3]``.

        Raises:
            ExportError: The clips of the run are not where they should be.
        """
        if stage == "extractor":
            by_frame = self.reference.run.backbone.granularity == "frame"
            return self._calibration_clips.frames(_FRAMES_PER_CLIP if by_frame else None)
        return (features[None] for features in self._calibration_features)

    @property
    def calibration(self) -> Calibration:
        """The clips that quantization is calibrated on."""
        clips = self._calibration_clips
        return Calibration(clips=len(clips), sha256=tuple(clips.hashes.values()))

    @functools.cached_property
    def judge(self) -> HeldOut:
        """Held-out clips to choose among quantized models by; of the validation split, for it is a choice."""
        run = self.reference.run
        clips = held_out_clips(run, data=self._options.data, decoded=self._decoded)
        compute = functools.partial(self.reference.compute, "classifier")
        return HeldOut(clips, self._features(clips), compute, run.info.threshold)

    @functools.cached_property
    def _calibration_clips(self) -> ClipSet:
        count = self._options.calibration_clips or CALIBRATION_CLIPS
        return calibration_clips(self.reference.run, data=self._options.data, count=count, decoded=self._decoded)

    @functools.cached_property
    def _calibration_features(self) -> npt.NDArray[np.float32]:
        return self._features(self._calibration_clips)

    def _features(self, clips: ClipSet) -> npt.NDArray[np.float32]:
        return clips.features(self.reference.run, self.reference.weights, self._options.store_root)

    def _find_held_out(self, limit: int | None) -> HeldOutClips | None:
        run = self.reference.run
        dataset = find_clips(run, self._options.data)
        if dataset is None:
            say(f"export: the run's clips are no longer in {run.info.source}; synthetic frames prove it: see --data")
            return None
        return HeldOutClips(dataset, self.reference, self._options.store_root, limit, self._decoded)
