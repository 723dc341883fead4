"""Runtimes that refuse a file, and the reasons."""

from __future__ import annotations

import dataclasses

from vdeploy.artifacts.file_headers.onnx import OnnxHead
from vdeploy.artifacts.file_headers.tensorrt import Plan, capability_text
from vdeploy.triton.planning.compatibility import onnxruntime_needed
from vdeploy.triton.planning.server_facts import version_text
from vdeploy.triton.repository.backends import refusal

__all__ = ["Refusal", "of_engine", "of_format", "of_onnx", "of_openvino"]


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A runtime that refuses a file.

    Attributes:
        where: The runtime.
        why: The reason.
        instead: What to do.
    """

    where: str
    why: str
    instead: str = ""


def of_format(format_name: str) -> tuple[Refusal, ...]:
    """Returns the refusals that follow from the format."""
    reason = refusal(format_name)
    return (Refusal("Triton", *reason),) if reason else ()


def of_onnx(head: OnnxHead, precision: str) -> tuple[Refusal, ...]:
    """Returns the refusals that follow from the versions and the precision of an ONNX file."""
    needed = onnxruntime_needed(head)
    versions = f"it has IR version {head.ir_version} and opset {head.opset}"
    found = [Refusal("Triton's tensorrt backend", "it runs engines only", "export to tensorrt-fp16 or tensorrt-int8")]
    if needed is None:
        found.append(Refusal("every ONNX Runtime whose limits are known here", versions, "export the run again"))
    else:
        found.append(Refusal(f"ONNX Runtime before {version_text(needed)}", versions, "use a newer server"))
    if "int8" in precision:
        found.append(
            Refusal("vdeploy serve --accelerate", "it is quantized for CPUs", "choose onnx-fp16 or tensorrt-int8")
        )
    return tuple(found)


def of_engine(plan: Plan, capabilities: tuple[int, ...], *, version_compatible: bool = False) -> tuple[Refusal, ...]:
    """Returns the refusals that follow from the header of an engine and its compute capabilities."""
    later = " or a later one of the same major version" if version_compatible else ""
    found = [
        Refusal(
            f"every {plan.library} but {plan.version_text}{later}",
            "an engine runs on the version that built it",
            "export it again where it is to run",
        )
    ]
    if capabilities:
        found.append(
            Refusal(
                f"GPUs of another compute capability than {capability_text(*capabilities)}",
                "an engine runs on the GPUs that it was built for",
                "export it again where it is to run",
            )
        )
    if plan.library == "tensorrt_rtx":
        found += of_format("tensorrt-rtx-")
    return tuple(found)


def of_openvino() -> tuple[Refusal, ...]:
    """Returns the refusals of every OpenVINO model."""
    return (
        Refusal("Triton's onnxruntime backend", "it runs ONNX only", "export to an onnx-* format"),
        Refusal("Triton's tensorrt backend", "it runs engines only", "export to tensorrt-fp16 or tensorrt-int8"),
    )
