"""The one place that knows which class runs which format; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.errors import BundleError
from vdeploy.formats import FORMATS, Format

if TYPE_CHECKING:
    from vdeploy.bundle import Bundle, Stage
    from vdeploy.runtimes.base import Runtime

__all__ = ["choose_format", "open_artifact", "open_runtime"]

_CLASSES = {
    "onnxruntime": "OnnxRuntime",
    "tensorflow": "TensorFlowRuntime",
    "litert": "LiteRtRuntime",
    "tensorrt": "TensorRTRuntime",
}


def open_runtime(kind: Format, path: Path, threads: int | None = None) -> Runtime:
    """Loads a file in the runtime of its format.

    Args:
        kind: The format.
        path: The file or folder.
        threads: Threads for one call; all available cores if left out.

    Raises:
        MissingExtraError: The runtime is not installed.
        BundleError: It cannot load the file.
    """
    module = importlib.import_module(f"vdeploy.runtimes.{kind.runtime}")
    runtime: Runtime = getattr(module, _CLASSES[kind.runtime])(path, threads)
    return runtime


def open_artifact(bundle: Bundle, stage: Stage, format_name: str, threads: int | None = None) -> Runtime:
    """Loads a stage of a bundle.

    Args:
        bundle: The bundle.
        stage: The stage.
        format_name: The format.
        threads: Threads for one call; all available cores if left out.

    Raises:
        BundleError: The bundle does not hold it, this vdeploy does not know it, or its runtime cannot load it.
        MissingExtraError: The runtime is not installed.
    """
    artifact = bundle.artifact(stage, format_name)
    if artifact.format not in FORMATS:
        raise BundleError(f"this vdeploy cannot run the format {artifact.format}", "use the vdeploy that exported it")
    return open_runtime(FORMATS[artifact.format], bundle.path(artifact), threads)


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
