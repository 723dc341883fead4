"""Checks that run before a server starts or a repository changes, one line each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from vdeploy.artifacts.bundle import MANIFEST, Artifact, Bundle
from vdeploy.artifacts.file_headers.onnx import read_onnx_head
from vdeploy.artifacts.file_headers.tensorrt import read_plan
from vdeploy.core.errors import DeployError, RepositoryError, ServerError
from vdeploy.triton.planning.accelerator import check_accelerator
from vdeploy.triton.planning.checks import Check, Surroundings
from vdeploy.triton.planning.compatibility import NEWEST_KNOWN, engine_misfit, onnx_misfit
from vdeploy.triton.planning.memory import check_memory
from vdeploy.triton.planning.server_facts import Target, Version, version_text
from vdeploy.triton.repository.backends import ServedStage, common_batch
from vdeploy.triton.repository.path_rules import OTHER_FOLDER, refuse_unusable_path
from vdeploy.triton.repository.serving_plan import ServingPlan
from vdeploy.triton.repository.stream_config import refuse_for_streams
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.ports import check_ports

__all__ = ["preflight"]

SPARE_BYTES = 16 * 2**20
"""What must stay free beside the models: configurations, logs and the server's own files."""

_STALLING = "2.51"
"""A version of Triton whose dynamic batcher misses that a model has become idle once its queue is bounded."""

_OLD_ENGINE = "export it again inside the image that serves, on the machine with the GPU, or serve ONNX"


def preflight(plan: ServingPlan, root: Path, surroundings: Surroundings) -> tuple[Check, ...]:
    """Checks a plan against a repository and a server; changes nothing.

    Args:
        plan: What is to be served.
        root: The repository.
        surroundings: Where.

    Returns:
        The checks, those that failed among them.
    """
    target, install = surroundings.target, surroundings.install
    checks = [Check("engines", True, f"none is served, {plan.reason}")] if plan.reason else []
    if plan.speed_reason:
        checks.append(Check("format", True, plan.speed_reason))
    checks.append(_files(plan.bundle))
    for served in plan.stages:
        checks.append(_backend(served, install))
        artifact = plan.artifact(served)
        path = plan.bundle.path(artifact)
        if served.backend == "tensorrt":
            checks.append(_engine(artifact, path, target))
        elif served.format.startswith("openvino-"):
            checks.append(_openvino(artifact, target, install))
        else:
            is_python = served.backend == "python"
            checks.append(_onnx(artifact, path, target.python_onnxruntime if is_python else target.onnxruntime))
    checks += [_batches(plan), check_memory(plan, surroundings.memory), _folder(plan, root), _disk(plan, root)]
    if plan.options.streams and plan.options.streams.limit:
        checks.append(_streams(plan, install))
    if found := check_accelerator(plan.options, install.version if install else ""):
        checks.append(found)
    if plan.options.instances > 1 and plan.extractor.backend == "onnxruntime" and not plan.options.gpus:
        checks.append(_threads(plan))
    if plan.options.max_queue is not None:
        checks.append(_queue(plan.options.max_queue, install))
    if surroundings.ports:
        checks.append(_ports(surroundings.host, surroundings.ports))
    return tuple(checks)


def _files(bundle: Bundle) -> Check:
    held = bundle.manifest.artifacts
    megabytes = sum(artifact.bytes for artifact in held) / 1e6
    return Check("files", True, f"{len(held)} artifacts of {bundle.root}, {megabytes:.1f} MB, are what was exported")


def _backend(served: ServedStage, install: TritonInstall | None) -> Check:
    subject = f"{served.stage} in {served.format}"
    if install is None:
        return Check(subject, True, f"needs a server with the {served.backend} backend")
    if install.has_backend(served.backend):
        return Check(subject, True, f"{served.backend} backend of {install.origin}")
    return Check(
        subject,
        False,
        f"the Triton server of {install.origin} has no {served.backend} backend",
        "choose another with --backend, or another server",
    )


def _onnx(artifact: Artifact, path: Path, runtime: Version | None) -> Check:
    subject = f"{artifact.stage}'s ONNX version"
    try:
        head = read_onnx_head(path)
    except DeployError as error:
        return Check(subject, False, error.message, error.hint)
    held = f"IR version {head.ir_version}, opset {head.opset}"
    if runtime is None:
        return Check(subject, True, f"{held}; the server's ONNX Runtime is not known, name it with --target-ort")
    misfit = onnx_misfit(head, runtime)
    if misfit is None:
        return Check(subject, True, f"{held}, which ONNX Runtime {version_text(runtime)} reads")
    if runtime[:2] > NEWEST_KNOWN:
        return Check(subject, True, f"{held}; what ONNX Runtime {version_text(runtime)} reads is not known")
    return Check(subject, False, f"{path} has {misfit}", "use a newer server, or --backend python")


def _openvino(artifact: Artifact, target: Target, install: TritonInstall | None) -> Check:
    subject = f"{artifact.stage}'s OpenVINO"
    if install is None:
        return Check(subject, True, "the server's Python environment is not known; it needs the package openvino")
    if target.lacks_openvino:
        detail = "the Python backend imports the package openvino, which is not installed here"
        return Check(subject, False, detail, "run: pip install 'vdeploy[openvino]'")
    return Check(subject, True, "the Python backend has it")


def _engine(artifact: Artifact, path: Path, target: Target) -> Check:
    subject = f"{artifact.stage}'s engine"
    try:
        plan = read_plan(path)
        misfits = engine_misfit(artifact, path, target.tensorrt, target.capabilities)
    except DeployError as error:
        return Check(subject, False, error.message, error.hint)
    if misfits:
        return Check(subject, False, f"{path} was {'; '.join(misfits)}", _OLD_ENGINE)
    unknown = [
        option
        for option, known in (("--target-trt", target.tensorrt), ("--target-sm", target.capabilities))
        if not known
    ]
    told = f"; unknown of the server, tell it with {' and '.join(unknown)}" if unknown else ""
    return Check(subject, True, f"built by TensorRT {plan.version_text}{told}")


def _batches(plan: ServingPlan) -> Check:
    try:
        batch = common_batch(plan.stages, plan.options.max_batch)
    except RepositoryError as error:
        return Check("batch", False, error.message, error.hint)
    return Check("batch", True, f"all models take {batch} clips at most")


def _queue(limit: int, install: TritonInstall | None) -> Check:
    detail = f"at most {limit} requests wait for a stage"
    if install is None or not install.version:
        detail += f"; Triton {_STALLING} would stall by up to half a second per batch"
    elif install.version.startswith(_STALLING):
        detail += f"; this Triton, {install.version}, stalls by up to half a second per batch: leave --max-queue out"
    return Check("queue", True, detail)


def _threads(plan: ServingPlan) -> Check:
    options = plan.options
    if plan.needs_threads:
        return Check(
            "threads", True, f"each of {options.instances} instances takes all cores; have them share with --threads"
        )
    return Check("threads", True, f"{options.instances} instances, {options.threads_of_instance} threads each")


def _streams(plan: ServingPlan, install: TritonInstall | None) -> Check:
    try:
        refuse_for_streams(plan.extractor)
    except RepositoryError as error:
        return Check("streams", False, error.message, error.hint)
    if install is not None and not install.has_backend("python"):
        return Check(
            "streams",
            False,
            f"the Triton server of {install.origin} has no python backend, which keeps their windows",
            "leave --streams out, or use another server",
        )
    limit = plan.options.streams.limit if plan.options.streams else 0
    return Check("streams", True, f"the python backend keeps the windows of {limit} at most")


def _folder(plan: ServingPlan, root: Path) -> Check:
    streams = plan.options.streams
    if any(served.backend == "python" for served in plan.stages) or (streams and streams.limit):
        try:
            refuse_unusable_path(root, OTHER_FOLDER)
        except RepositoryError as error:
            return Check("repository", False, error.message, error.hint)
    if (root / MANIFEST).exists():
        return Check("repository", False, f"{root} is a bundle", OTHER_FOLDER)
    there = _existing(root)
    if there.is_dir() and os.access(there, os.W_OK):
        return Check("repository", True, f"{root} can be written")
    return Check("repository", False, f"{there} cannot be written", "make it a writable folder, or choose another")


def _disk(plan: ServingPlan, root: Path) -> Check:
    there = _existing(root)
    needed = SPARE_BYTES + sum(plan.artifact(served).bytes for served in plan.stages)
    free = shutil.disk_usage(there).free
    detail = f"{free / 1e6:,.0f} MB free at {there}, {needed / 1e6:,.0f} MB needed"
    return Check("disk", free >= needed, detail, "free some space, or choose another folder")


def _ports(host: str, ports: Mapping[str, int]) -> Check:
    try:
        check_ports(host, ports)
    except ServerError as error:
        return Check("ports", False, error.message, error.hint)
    return Check("ports", True, f"{', '.join(str(port) for port in ports.values() if port)} of {host} are free")


def _existing(path: Path) -> Path:
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())
