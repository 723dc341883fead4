"""The one place that knows which class runs which format; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import BundleError
from vdeploy.formats import FORMATS, Format

if TYPE_CHECKING:
    from vdeploy.artifacts.bundle import Bundle, Stage
    from vdeploy.inference.runtimes.base import Runtime

__all__ = ["choose_format", "is_installed", "open_artifact", "open_runtime"]

_CLASSES = {
    "onnxruntime": ("onnxruntime", "OnnxRuntime"),
    "openvino": ("openvino", "OpenVinoRuntime"),
    "tensorflow": ("tensorflow", "TensorFlowRuntime"),
    "tensorflow-predict": ("tensorflow_peers", "TensorFlowPredict"),
    "tensorflow-xla": ("tensorflow_peers", "TensorFlowXla"),
    "litert": ("litert", "LiteRtRuntime"),
    "tensorrt": ("tensorrt", "TensorRTRuntime"),
}
"""Module and class of each runtime: those of the table of formats, and others that read the same files."""

_LEAN = {"onnxruntime"}
"""Modules whose class can do without memory of its own."""


def open_runtime(
    kind: Format, path: Path, threads: int | None = None, runtime: str | None = None, *, lean: bool = False
) -> Runtime:
    """Loads a file in the runtime of its format, or in another one that reads it.

    Args:
        kind: The format.
        path: The file or folder.
        threads: Threads for one call; all available cores if left out.
        runtime: ``"openvino"`` for an ONNX file, ``"tensorflow-predict"`` or ``"tensorflow-xla"`` for a SavedModel;
            left out, the format's own.
        lean: Keep no memory between calls, where the runtime has the choice.

    Raises:
        MissingExtraError: The runtime is not installed.
        BundleError: It cannot load the file.
    """
    module, name = _CLASSES[runtime or kind.runtime]
    options = {"lean": True} if lean and module in _LEAN else {}
    opened: Runtime = getattr(importlib.import_module(f"vdeploy.inference.runtimes.{module}"), name)(
        path, threads, **options
    )
    return opened


def open_artifact(
    bundle: Bundle, stage: Stage, format_name: str, threads: int | None = None, runtime: str | None = None
) -> Runtime:
    """Loads a stage of a bundle.

    Args:
        bundle: The bundle.
        stage: The stage.
        format_name: The format.
        threads: Threads for one call; all available cores if left out.
        runtime: Another runtime than the format's own; see `open_runtime`.

    Raises:
        BundleError: The bundle does not hold it, this vdeploy does not know it, or its runtime cannot load it.
        MissingExtraError: The runtime is not installed.
    """
    artifact = bundle.artifact(stage, format_name)
    if artifact.format not in FORMATS:
        raise BundleError(f"this vdeploy cannot run the format {artifact.format}", "use the vdeploy that exported it")
    return open_runtime(FORMATS[artifact.format], bundle.path(artifact), threads, runtime)


def choose_format(bundle: Bundle, wanted: str | None) -> str:
    """The format to run: the one asked for, else the first of the table that the bundle holds whole.

    Args:
        bundle: The bundle.
        wanted: Name of a format; left out, this function chooses.

    Raises:
        BundleError: The bundle holds no format with both stages.
    """
    if wanted is not None:
        return wanted
    held = bundle.manifest.formats
    for name in (*FORMATS, *held):
        if name in held:
            return name
    raise BundleError(f"{bundle.root} holds no format with both stages", "export the run again")


def is_installed(kind: Format) -> bool:
    """Whether this Python has the module that runs a format; nothing is imported."""
    return importlib.util.find_spec(kind.modules[-1]) is not None
