"""Description of a bundle, a repository or a model file."""

from __future__ import annotations

from pathlib import Path

from vdeploy.artifacts.bundle import MANIFEST
from vdeploy.core.errors import DeployError
from vdeploy.core.locks import settle_folder
from vdeploy.inspection.description import Description
from vdeploy.inspection.files import engine_part, onnx_part, openvino_part
from vdeploy.inspection.folders import describe_bundle, describe_repository
from vdeploy.triton.names import CONFIG

__all__ = ["describe"]

_ENGINES = {".engine", ".plan"}


def describe(path: Path) -> Description:
    """Describes a bundle, a model repository, an engine, an ONNX file or an OpenVINO graph.

    Raises:
        DeployError: It is none of these, or damaged.
        MissingExtraError: The package that reads it is not installed.
    """
    settle_folder(path)
    if (path / MANIFEST).is_file():
        return describe_bundle(path)
    if path.is_dir() and next(path.glob(f"*/{CONFIG}"), None):
        return describe_repository(path)
    if path.is_file() and path.suffix in _ENGINES:
        return Description("engine", str(path), {}, (engine_part(path),))
    if path.is_file() and path.suffix == ".onnx":
        return Description("onnx", str(path), {}, (onnx_part(path),))
    if path.is_file() and path.suffix == ".xml":
        return Description("openvino", str(path), {}, (openvino_part(path),))
    suffixes = ".engine, .plan, .onnx or .xml"
    missing = f"is no bundle, model repository, {suffixes} file" if path.exists() else "does not exist"
    raise DeployError(f"{path} {missing}", "give one of these: BUNDLE, REPO, ENGINE, MODEL.onnx or MODEL.xml")
