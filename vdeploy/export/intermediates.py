"""What formats are made from: ONNX files, each written once however many formats need it, and calibration clips."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vdeploy.artifacts.bundle.manifest import Calibration, Stage
from vdeploy.export.calibration import CALIBRATION_CLIPS, ClipSet, calibration_clips, held_out_clips
from vdeploy.export.onnx.convert import classifier_to_onnx, extractor_to_onnx
from vdeploy.export.onnx.external_weights import open_onnx
from vdeploy.export.onnx.file import write_onnx
from vdeploy.export.onnx.float16 import find_wide_tensors, to_float16
from vdeploy.export.options import ExportOptions
from vdeploy.export.quantization import FLAVOURS, HeldOut, Quantization, quantize
from vdeploy.export.verification.reference import Reference

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from onnx import ModelProto

__all__ = ["Flavour", "Sources"]

Flavour = Literal["fp32", "fp16", "cpu", "tensorrt"]
"""A precision in floating point, or the INT8 flavour of `vdeploy.export.quantization`."""

_FRAMES_PER_CLIP = 1
"""Frames of a clip are alike; more clips tell more about the range of a tensor. A backbone of whole clips takes all."""

_SPOOL = "weights"


class Sources:
    """A folder of ONNX files, filled on demand, and the clips to calibrate on, looked for on demand.

    Args:
        reference: The run in Keras.
        folder: An empty folder that lives as long as the export.
        samples: Inputs of each stage, to find the tensors that float16 cannot hold.
        options: The user's choices.
    """

    def __init__(
        self, reference: Reference, folder: Path, samples: Mapping[Stage, npt.NDArray[Any]], options: ExportOptions
    ) -> None:
        self._reference = reference
        self._folder = folder
        self._samples = samples
        self._options = options
        self._details: dict[tuple[Stage, Flavour], dict[str, Any]] = {}

    def onnx(self, stage: Stage, flavour: Flavour) -> Path:
        """The ONNX file of a stage.

        Args:
            stage: ``"extractor"`` or ``"classifier"``.
            flavour: What it computes in.

        Raises:
            ExportError: It cannot be quantized, or there are no clips to calibrate on.
        """
        path = self._folder / f"{stage}-{flavour}.onnx"
        if not path.exists():
            model, self._details[stage, flavour] = self._make(stage, flavour)
            self._reference.release_extractor()
            write_onnx(model, path)
            (self._folder / _SPOOL).unlink(missing_ok=True)
        return path

    def details(self, stage: Stage, flavour: Flavour) -> dict[str, Any]:
        """What is to be told of an ONNX file that `onnx` has made, JSON-ready."""
        return self._details[stage, flavour]

    def calibration_inputs(self, stage: Stage) -> Iterator[npt.NDArray[Any]]:
        """Inputs of a stage from training clips: ``uint8[1, 1, H, W, 3]`` frames or ``float32[1, t, F]`` features.

        For a backbone that looks at whole clips, all frames of a clip: ``uint8[1, T, H, W, 3]``.

        Raises:
            ExportError: The clips of the run are not where they should be.
        """
        if stage == "extractor":
            return self._calibration_clips.frames(_FRAMES_PER_CLIP if self._by_frame else None)
        return (features[None] for features in self._calibration_features)

    @property
    def calibration(self) -> Calibration:
        """The clips that quantization is calibrated on."""
        clips = self._calibration_clips
        return Calibration(clips=len(clips), sha256=tuple(clips.hashes.values()))

    @functools.cached_property
    def _calibration_clips(self) -> ClipSet:
        count = self._options.calibration_clips or CALIBRATION_CLIPS
        return calibration_clips(self._reference.run, data=self._options.data, count=count)

    @functools.cached_property
    def _calibration_features(self) -> npt.NDArray[np.float32]:
        return self._features(self._calibration_clips)

    @functools.cached_property
    def _judge(self) -> HeldOut:
        """Held-out clips to choose among quantized models by; of the validation split, for it is a choice."""
        clips = held_out_clips(self._reference.run, data=self._options.data)
        threshold = self._reference.run.info.threshold
        return HeldOut(
            clips, self._features(clips), functools.partial(self._reference.compute, "classifier"), threshold
        )

    def _features(self, clips: ClipSet) -> npt.NDArray[np.float32]:
        return clips.features(self._reference.run, self._reference.weights, self._options.store_root)

    def _make(self, stage: Stage, flavour: Flavour) -> tuple[ModelProto, dict[str, Any]]:
        if flavour == "fp32":
            if stage == "extractor":
                return extractor_to_onnx(self._reference.extractor, self._folder / _SPOOL), {}
            return classifier_to_onnx(self._reference.classifier), {}
        model = open_onnx(self.onnx(stage, "fp32"))
        if flavour == "fp16":
            wide = find_wide_tensors(model, self._sample_feeds(stage))
            return to_float16(model, wide=wide), {"kept_in_float32": sorted(wide)}
        result = self._quantize(stage, model, flavour)
        return result.model, {
            "flavour": result.flavour,
            "calibration_method": result.method,
            "tried": {method: dataclasses.asdict(agreement) for method, agreement in result.tried.items()},
            "kept_in_float": list(result.kept),
            "float_only": list(result.float_only),
        }

    @property
    def _by_frame(self) -> bool:
        return self._reference.run.backbone.granularity == "frame"

    def _sample_feeds(self, stage: Stage) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """A frame of a clip at a time, for all inner tensors are kept at once; or a clip, or its features."""
        for clip in self._samples[stage]:
            if stage == "extractor" and not self._by_frame:
                yield {"frames": clip[None]}
            elif stage == "extractor":
                yield from ({"frames": frame[None, None]} for frame in clip)
            else:
                yield {"features": clip[None]}

    def _quantize(self, stage: Stage, model: ModelProto, flavour: Flavour) -> Quantization:
        name = "frames" if stage == "extractor" else "features"
        judge = self._judge.judge_extractor if stage == "extractor" else self._judge.judge_classifier
        return quantize(
            model, FLAVOURS[flavour], lambda: ({name: inputs} for inputs in self.calibration_inputs(stage)), judge
        )
