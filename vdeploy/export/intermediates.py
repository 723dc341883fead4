"""What formats are made from: ONNX files, each written, or refused, once however many formats need it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vdeploy.artifacts.bundle.manifest import Stage
from vdeploy.artifacts.onnx_graphs.tensors import infer_values
from vdeploy.core.errors import ExportError
from vdeploy.export.onnx.convert import classifier_to_onnx, extractor_to_onnx, stream_to_onnx
from vdeploy.export.onnx.external_weights import open_onnx
from vdeploy.export.onnx.file import write_onnx
from vdeploy.export.onnx.float16 import find_wide_tensors, to_float16
from vdeploy.export.onnx.flops import count_flops, count_parameters
from vdeploy.export.quantization import TENSORRT, Quantization, cpu_flavour, quantize

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto

    from vdeploy.export.reference_data import ReferenceData

__all__ = ["Flavour", "Intermediates"]

Flavour = Literal["fp32", "fp16", "cpu", "tensorrt"]
"""A precision in floating point, or the INT8 flavour of `vdeploy.export.quantization`."""

_SPOOL = "weights"


class Intermediates:
    """A folder of ONNX files, filled on demand.

    Args:
        data: The run, and inputs of its stages.
        folder: A folder that lives as long as the export.
    """

    def __init__(self, data: ReferenceData, folder: Path) -> None:
        self._data = data
        self._reference = data.reference
        self._folder = folder
        self._details: dict[tuple[Stage, Flavour], dict[str, Any]] = {}
        self._failed: dict[tuple[Stage, Flavour], ExportError] = {}

    def onnx(self, stage: Stage, flavour: Flavour) -> Path:
        """The ONNX file of a stage.

        Args:
            stage: ``"extractor"``, ``"classifier"``, or ``"stream"`` for ``"fp32"`` alone.
            flavour: What it computes in.

        Raises:
            ExportError: It cannot be quantized, or there are no clips to calibrate on.
        """
        path = self._path(stage, flavour)
        if (stage, flavour) in self._failed:
            raise self._failed[stage, flavour]
        if not path.exists():
            try:
                model, self._details[stage, flavour] = self._make(stage, flavour)
            except ExportError as error:
                self._failed[stage, flavour] = error
                raise
            self._reference.release_extractor()
            write_onnx(model, path)
            self._release()
        return path

    def details(self, stage: Stage, flavour: Flavour) -> dict[str, Any]:
        """What is to be told of an ONNX file that `onnx` has made, JSON-ready."""
        return self._details[stage, flavour]

    def counts(self, stage: Stage) -> tuple[int, int]:
        """Count a stage's floating-point operations for one clip, and its parameters, in its FP32 graph.

        A graph that no format needs is not written.

        Raises:
            ExportError: The operations cannot be counted.
        """
        path = self._path(stage, "fp32")
        graph = path if path.exists() else self._float32(stage)
        taken = self._reference.tensors[stage][0]
        clip = (self._reference.spec.frames if axis == "time" else int(axis) for axis in taken.shape[1:])
        try:
            return count_flops(graph, {taken.name: (1, *clip)}), count_parameters(graph)
        finally:
            self._release()

    def _make(self, stage: Stage, flavour: Flavour) -> tuple[ModelProto, dict[str, Any]]:
        if flavour == "fp32":
            model = self._float32(stage)
            return model, {"buffer": infer_values(model)["buffer"].shape[1]} if stage == "stream" else {}
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

    def _float32(self, stage: Stage) -> ModelProto:
        if stage == "extractor":
            return extractor_to_onnx(self._reference.extractor, self._folder / _SPOOL)
        if stage == "stream":
            return stream_to_onnx(self._reference.extractor)
        return classifier_to_onnx(self._reference.classifier)

    def _path(self, stage: Stage, flavour: Flavour) -> Path:
        return self._folder / f"{stage}-{flavour}.onnx"

    def _release(self) -> None:
        self._reference.release_extractor()
        (self._folder / _SPOOL).unlink(missing_ok=True)

    @property
    def _by_frame(self) -> bool:
        return self._reference.run.backbone.granularity == "frame"

    def _sample_feeds(self, stage: Stage) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """A frame of a clip at a time, for all inner tensors are kept at once; or a clip, or its features."""
        for clip in self._data.inputs[stage]:
            if stage == "extractor" and not self._by_frame:
                yield {"frames": clip[None]}
            elif stage == "extractor":
                yield from ({"frames": frame[None, None]} for frame in clip)
            else:
                yield {"features": clip[None]}

    def _quantize(self, stage: Stage, model: ModelProto, flavour: Flavour) -> Quantization:
        name = "frames" if stage == "extractor" else "features"
        judge = self._data.judge.judge_extractor if stage == "extractor" else self._data.judge.judge_classifier
        kind = TENSORRT if flavour == "tensorrt" else cpu_flavour()
        return quantize(model, kind, lambda: ({name: inputs} for inputs in self._data.calibration_inputs(stage)), judge)
