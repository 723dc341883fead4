"""Inspection of ONNX models, OpenVINO graphs and TensorRT engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.artifacts.file_headers.onnx import OnnxHead
from vdeploy.artifacts.file_headers.tensorrt import read_plan
from vdeploy.core.errors import ExportError
from vdeploy.core.files import sha256_of
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.inspection import inspect_model, read_onnx
from vdeploy.export.openvino.convert import read_openvino
from vdeploy.export.openvino.inspection import layers_of
from vdeploy.export.tensorrt.report import found_precision, read_report, report_file
from vdeploy.export.verification.precision import precision_of
from vdeploy.inspection.description import Part, Tensor
from vdeploy.inspection.incompatibilities import of_engine, of_onnx, of_openvino

if TYPE_CHECKING:
    import onnx

__all__ = ["engine_part", "onnx_part", "onnx_versions", "openvino_part"]


def onnx_part(path: Path, name: str = "") -> Part:
    """Inspects an ONNX file.

    Args:
        path: The file.
        name: Name in the description; the file's name by default.

    Raises:
        MissingExtraError: The package onnx is not installed.
        BundleError: It is no ONNX model, or has no layer with weights.
    """
    model = read_onnx(path)
    found = inspect_model(model, path)
    head = OnnxHead(found.ir_version, found.opset)
    return Part(
        name=name or path.name,
        format="onnx",
        precision=found.precision,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        inputs=tuple(_tensor(value) for value in model.graph.input),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        versions=onnx_versions(head) | ({model.producer_name: model.producer_version} if model.producer_name else {}),
        refused=of_onnx(head, found.precision),
    )


def onnx_versions(head: OnnxHead) -> dict[str, str]:
    """The versions of an ONNX file by name."""
    return {"IR": str(head.ir_version), "opset": str(head.opset)}


def openvino_part(path: Path, name: str = "") -> Part:
    """Inspects an OpenVINO model.

    Args:
        path: Its graph, ``model.xml``; the weights lie beside it.
        name: Name in the description; the file's name by default.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: It is no such model, or has no layer with weights.
    """
    model = read_openvino(path)
    return Part(
        name=name or path.name,
        format="openvino",
        precision=precision_of(layers_of(model, path)),
        bytes=sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.is_file()),
        sha256=sha256_of(path),
        inputs=tuple(map(_of_openvino, model.inputs)),
        outputs=tuple(map(_of_openvino, model.outputs)),
        refused=of_openvino(),
    )


def engine_part(path: Path, name: str = "") -> Part:
    """Inspects the header of an engine and the report beside it, if there is one.

    Args:
        path: The file.
        name: Name in the description; the file's name by default.

    Raises:
        BundleError: It is no engine, or damaged.
        ExportError: The report belongs to another engine, or cannot be read.
    """
    plan = read_plan(path)
    report = read_report(path) if report_file(path).is_file() else None
    inputs: tuple[Tensor, ...] = ()
    if report is not None:
        inputs = tuple(
            Tensor(tensor, "", (f"{smallest[0]}..{largest[0]}", *largest[1:]))
            for tensor, (smallest, _, largest) in report.shapes.items()
        )
    return Part(
        name=name or path.name,
        format=plan.library,
        precision=_precision(path) if report else "",
        bytes=plan.bytes,
        sha256=sha256_of(path),
        inputs=inputs,
        versions={plan.library: plan.version_text},
        refused=of_engine(
            plan,
            plan.capabilities or (report.capabilities if report else ()),
            version_compatible=bool(report and report.flags.get("version_compatible")),
        ),
    )


def _precision(path: Path) -> str:
    try:
        return found_precision(path)
    except ExportError as error:
        return f"in doubt: {error.message}"


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    package = require("onnx", extra="export", purpose="inspecting ONNX files")
    kind = value.type.tensor_type
    shape = tuple(axis.dim_param or int(axis.dim_value) for axis in kind.shape.dim)
    return Tensor(value.name, str(package.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)


def _of_openvino(value: Any) -> Tensor:
    shape = tuple(axis.get_length() if axis.is_static else -1 for axis in value.get_partial_shape())
    return Tensor(value.get_any_name(), str(value.get_element_type().to_dtype()), shape)
