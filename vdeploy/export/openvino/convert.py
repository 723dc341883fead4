"""OpenVINO's intermediate representation (IR): a folder with the graph in ``model.xml`` and the weights beside it."""

from __future__ import annotations

import collections
import re
from pathlib import Path
from typing import Any

from vdeploy.core.errors import BundleError, ExportError
from vdeploy.core.files import publish_folder, staging_folder
from vdeploy.core.lazy_imports import require
from vdeploy.inference.runtimes.openvino import GRAPH, reason_of

__all__ = ["onnx_to_openvino", "read_openvino"]

_NUMBER = re.compile(r"(_\d+)+$")


def onnx_to_openvino(source: Path, folder: Path) -> None:
    """Writes an ONNX file as IR, its weights and tensors' names as they are.

    The same file gives the same bytes. OpenVINO's own reader is asked, not its converter, which reports what it is used
    for to its makers.

    Args:
        source: The ONNX file.
        folder: Where the IR goes; what stands there is replaced in one step.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: It cannot read the source.
        ExportError: The folder cannot be written.
    """
    openvino = _library()
    model = read_openvino(source)
    _name_canonically(model)
    try:
        with staging_folder(folder) as staged:
            openvino.save_model(model, staged / GRAPH, compress_to_fp16=False)
            publish_folder(staged, folder)
    except (OSError, RuntimeError) as error:
        raise ExportError(
            f"cannot write the OpenVINO model {folder} ({reason_of(error)})", "free some space or choose another --out"
        ) from error


def read_openvino(file: Path) -> Any:
    """Reads a graph, that of a ``model.xml`` or of an ONNX file, as OpenVINO's ``Model``.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: It cannot read the file.
    """
    try:
        return _library().Core().read_model(file)
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot read {file} ({reason_of(error)})", "export the run again") from error


def _library() -> Any:
    return require("openvino", extra="openvino", purpose="OpenVINO models")


def _name_canonically(model: Any) -> None:
    """Numbers equal names by their order: OpenVINO counts on from one model to the next."""
    count: collections.Counter[str] = collections.Counter()
    for node in model.get_ordered_ops():
        name = _NUMBER.sub("", node.get_friendly_name())
        count[name] += 1
        node.set_friendly_name(name if count[name] == 1 else f"{name}_{count[name]}")
