"""Select the format of a bundle in which each stage is served."""

from __future__ import annotations

import dataclasses

from vdeploy.artifacts.bundle import Bundle, Manifest, Stage
from vdeploy.core.errors import BundleError, RepositoryError
from vdeploy.formats import FORMATS
from vdeploy.inference.format_speeds import SpeedRecord, fastest_format
from vdeploy.triton.planning.compatibility import engine_misfit
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.repository.backends import BackendChoice, refusal
from vdeploy.triton.server.install import TritonInstall

__all__ = ["FormatSelection", "choose_formats", "options_to_serve", "servable_on_cpu"]


@dataclasses.dataclass(frozen=True)
class FormatSelection:
    """What is going to be served.

    Attributes:
        extractor: Format of the extractor.
        classifier: Format of the classifier.
        accelerate: Whether ONNX Runtime is to hand over to TensorRT, because no engine fits the GPU.
        reason: Why it is not an engine though there is a GPU, or `""`.
        speed_reason: What the benchmark's record says for these formats, or `""`.
    """

    extractor: str
    classifier: str
    accelerate: bool = False
    reason: str = ""
    speed_reason: str = ""


def choose_formats(
    bundle: Bundle,
    backend: BackendChoice,
    *,
    precision: str | None = None,
    extractor: str | None = None,
    classifier: str | None = None,
    on_gpu: bool = False,
    install: TritonInstall | None = None,
    target: Target | None = None,
    speeds: SpeedRecord | None = None,
    runs_openvino: bool = False,
) -> FormatSelection:
    """Chooses the format of each stage.

    On a GPU, `"auto"` takes the bundle's engines where they fit the server and the card. Where they do not, it takes
    ONNX and, if the server has TensorRT, lets ONNX Runtime hand over to it. On the CPU, it takes the fastest format of
    the wanted precision, where that was measured.

    Args:
        bundle: What to serve.
        backend: The wanted backend.
        precision: `"fp32"`, `"fp16"` or `"int8"`; `None` is fp16 for engines, else fp32.
        extractor: The extractor's format, whatever the precision.
        classifier: The classifier's format, whatever the precision.
        on_gpu: Whether the stages are placed on GPUs.
        install: The server.
        target: What is known of it.
        speeds: What was measured on the server's machine; `None` takes ONNX on the CPU.
        runs_openvino: Whether the server is known to run OpenVINO.

    Raises:
        RepositoryError: There is no engine format of that precision.
    """
    if extractor and classifier:
        return FormatSelection(extractor, classifier)
    engine, onnx = f"tensorrt-{precision or 'fp16'}", f"onnx-{precision or 'fp32'}"
    if backend == "tensorrt":
        if precision == "fp32":
            raise RepositoryError("there is no engine format in fp32", "choose --precision fp16 or int8")
        return FormatSelection(extractor or engine, classifier or engine)
    if not on_gpu and speeds is not None and not (extractor or classifier):
        candidates = servable_on_cpu(bundle.manifest, precision or "fp32", runs_openvino=runs_openvino)
        fastest = fastest_format(speeds, bundle.root, onnx, candidates)
        return FormatSelection(fastest.name, fastest.name, speed_reason=fastest.reason)
    if backend != "auto" or not on_gpu or install is None:
        return FormatSelection(extractor or onnx, classifier or onnx)
    reason = _why_no_engine(bundle, engine, install, target or Target())
    if not reason:
        return FormatSelection(extractor or engine, classifier or engine)
    chosen = FormatSelection(extractor or onnx, classifier or onnx, reason=reason)
    can_hand_over = install.has_backend("onnxruntime") and install.has_backend("tensorrt")
    is_float = not {"onnx-int8"} & {chosen.extractor, chosen.classifier}
    return dataclasses.replace(chosen, accelerate=can_hand_over and is_float)


def options_to_serve(manifest: Manifest) -> tuple[str, ...] | None:
    """Options of `vdeploy serve` that a bundle requires.

    Returns:
        Options, none for a bundle with `onnx-fp32`; or `None` for one that holds nothing that Triton can serve.
    """
    held = [
        {artifact.format for artifact in manifest.artifacts if artifact.stage == stage}
        for stage in ("extractor", "classifier")
    ]
    formats = sorted(name for name in set.intersection(*held) if refusal(name) is None)
    if "onnx-fp32" in formats:
        return ()
    for precision in ("fp16", "int8"):
        if f"onnx-{precision}" in formats:
            return ("--precision", precision)
    return ("--extractor-format", formats[0], "--classifier-format", formats[0]) if formats else None


def servable_on_cpu(manifest: Manifest, precision: str | None, *, runs_openvino: bool) -> list[str]:
    """Formats that hold both stages and that a server runs without a GPU.

    Args:
        manifest: Of the bundle.
        precision: Their precision; `None` for any.
        runs_openvino: Whether the server has OpenVINO.
    """
    kinds = [FORMATS[name] for name in manifest.formats if name in FORMATS]
    runtimes = {"onnxruntime", "openvino"} if runs_openvino else {"onnxruntime"}
    return [kind.name for kind in kinds if kind.runtime in runtimes and precision in {None, kind.precision}]


def _why_no_engine(bundle: Bundle, engine: str, install: TritonInstall, target: Target) -> str:
    if not install.has_backend("tensorrt"):
        return f"the Triton server of {install.origin} has no tensorrt backend"
    stages: tuple[Stage, ...] = ("extractor", "classifier")
    for stage in stages:
        try:
            artifact = bundle.artifact(stage, engine)
        except BundleError as error:
            return error.message
        misfits = engine_misfit(artifact, bundle.path(artifact), target.tensorrt, target.capabilities)
        if misfits:
            return f"the {stage} in {engine} was {misfits[0]}"
    return ""
