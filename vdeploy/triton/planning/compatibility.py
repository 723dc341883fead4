"""Compatibility of model files with library versions and GPUs, each reason in one line."""

from __future__ import annotations

from pathlib import Path

from vdeploy.artifacts.bundle import Artifact
from vdeploy.artifacts.file_headers.onnx import OnnxHead
from vdeploy.artifacts.file_headers.tensorrt import Plan, capability_text, read_plan
from vdeploy.triton.planning.server_facts import Version, version_text

__all__ = ["NEWEST_KNOWN", "engine_misfit", "engine_needs", "onnx_misfit", "onnxruntime_needed"]

_LIMITS: tuple[tuple[Version, int, int], ...] = (
    ((1, 12), 17, 8),
    ((1, 14), 18, 8),
    ((1, 15), 19, 9),
    ((1, 17), 20, 9),
    ((1, 18), 21, 10),
    ((1, 21), 22, 10),
    ((1, 23), 23, 11),
)
"""From which version on ONNX Runtime reads which opset and which version of the format at most."""

NEWEST_KNOWN = _LIMITS[-1][0]
"""What newer ones read is not known here; at least what this one reads."""

_AMPERE = 80


def onnx_misfit(head: OnnxHead, onnxruntime: Version) -> str | None:
    """Why a version of ONNX Runtime refuses a file, or `None` where it reads it; a newer one than known may yet."""
    held = [limit for limit in _LIMITS if limit[0] <= onnxruntime]
    if not held:
        return f"ONNX Runtime {version_text(onnxruntime)} is older than {version_text(_LIMITS[0][0])}"
    _, opset, ir_version = held[-1]
    if head.ir_version > ir_version:
        return f"IR version {head.ir_version}, ONNX Runtime {version_text(onnxruntime)} reads {ir_version} at most"
    if head.opset > opset:
        return f"opset {head.opset}, ONNX Runtime {version_text(onnxruntime)} reads {opset} at most"
    return None


def onnxruntime_needed(head: OnnxHead) -> Version | None:
    """The oldest version of ONNX Runtime that is known to read a file."""
    fitting = (version for version, opset, ir in _LIMITS if head.opset <= opset and head.ir_version <= ir)
    return next(fitting, None)


def engine_misfit(
    artifact: Artifact, path: Path, tensorrt: Version | None, capabilities: tuple[int, ...]
) -> tuple[str, ...]:
    """Why a TensorRT of a version, or a GPU, refuses an engine of a bundle; empty where nothing speaks against it.

    Args:
        artifact: The engine in the manifest, which says what it was built for.
        path: The engine.
        tensorrt: The version that is to run it; `None` where it is not known.
        capabilities: Compute capabilities of the GPUs that are to run it; empty where they are not known.

    Raises:
        BundleError: The file is no engine.
    """
    plan, flags = read_plan(path), artifact.details.get("engine", {}).get("flags", {})
    found = (
        _version_misfit(plan, tensorrt, compatible=bool(flags.get("version_compatible"))),
        _capability_misfit(engine_needs(artifact, plan), capabilities, str(flags.get("hardware_compatibility"))),
    )
    return tuple(reason for reason in found if reason)


def engine_needs(artifact: Artifact, plan: Plan) -> tuple[int, ...]:
    """Compute capabilities that an engine was built for, from the file where it says so, else from the manifest."""
    return plan.capabilities or tuple(artifact.details.get("engine", {}).get("capabilities", ()))


def _version_misfit(plan: Plan, tensorrt: Version | None, *, compatible: bool) -> str | None:
    if tensorrt is None:
        return None
    digits = min(len(tensorrt), len(plan.version))
    if plan.version[:digits] == tensorrt[:digits]:
        return None
    if compatible and plan.version[0] == tensorrt[0] and plan.version[:digits] < tensorrt[:digits]:
        return None
    return f"built by TensorRT {plan.version_text}, {version_text(tensorrt)} is to run it"


def _capability_misfit(built_for: tuple[int, ...], capabilities: tuple[int, ...], compatibility: str) -> str | None:
    if not built_for:
        return None
    if compatibility == "ampere+":
        others = [value for value in capabilities if value < _AMPERE]
    else:
        others = [value for value in capabilities if value not in built_for]
    if not others:
        return None
    return f"built for compute capability {capability_text(*built_for)}, the GPU has {capability_text(*others)}"
