"""Inspection of bundles and model repositories."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from vdeploy.artifacts.bundle import Artifact, Bundle, StageInfo, TensorSpec
from vdeploy.artifacts.file_headers.onnx import read_onnx_head
from vdeploy.artifacts.file_headers.tensorrt import read_plan
from vdeploy.core.errors import RepositoryError
from vdeploy.core.files import sha256_of
from vdeploy.core.text import settings_text
from vdeploy.inspection.description import Description, Part, Tensor
from vdeploy.inspection.files import engine_part, onnx_part, onnx_versions, openvino_part
from vdeploy.inspection.incompatibilities import Refusal, of_engine, of_format, of_onnx, of_openvino
from vdeploy.triton.names import CONFIG
from vdeploy.triton.planning.compatibility import engine_needs
from vdeploy.triton.repository.repository import read_config, versions_of

__all__ = ["describe_bundle", "describe_repository"]

_READERS: dict[str, tuple[Callable[[Path], Part], str]] = {
    "model.plan": (engine_part, ""),
    "model.onnx": (onnx_part, "onnx"),
    "model.xml": (openvino_part, "openvino"),
}
"""Reader of each file of a version folder, and the package that it needs."""


def describe_bundle(root: Path) -> Description:
    """Opens a bundle, which checks every hash, and describes its manifest and file headers.

    Raises:
        BundleError: It is no bundle, or a file differs from the manifest.
    """
    bundle = Bundle(root)
    manifest, spec = bundle.manifest, bundle.manifest.clip_spec
    facts = {
        "run": manifest.run,
        "created": f"{manifest.created}, vdeploy {manifest.vdeploy_version}, schema {manifest.schema_version}",
        "clip": f"{spec.frames} frames of {spec.size} pixels",
        "extractor": f"{_described(manifest.extractor)}, {manifest.extractor.dim} features, "
        f"weights {manifest.extractor.weights}",
        "classifier": _described(manifest.classifier),
        "threshold": f"{manifest.threshold:.3g}",
    }
    parts = tuple(_artifact(artifact, bundle.path(artifact)) for artifact in manifest.artifacts)
    return Description("bundle", str(root), facts, parts)


def _described(stage: StageInfo) -> str:
    settings = settings_text(stage.settings)
    return f"{stage.architecture} ({settings})" if settings else stage.architecture


def describe_repository(root: Path) -> Description:
    """Reads the configuration of every model of a repository and inspects the files of its newest version.

    Raises:
        RepositoryError: A configuration cannot be read, or a model has no version.
        BundleError: A model file is not what its name says.
    """
    folders = sorted(file.parent for file in root.glob(f"*/{CONFIG}"))
    facts = {}
    parts = []
    for folder in folders:
        config = read_config(folder / CONFIG)
        versions = versions_of(folder)
        if not versions:
            raise RepositoryError(f"{folder} holds no version", "write the repository again: vdeploy serve BUNDLE")
        facts[config.name] = f"{_service(config)}, versions {', '.join(map(str, versions))}"
        parts.append(_model(config, folder / str(versions[-1])))
    return Description("repository", str(root), facts, tuple(parts))


def _of_manifest(spec: TensorSpec) -> Tensor:
    return Tensor(spec.name, spec.dtype, spec.shape)


def _artifact(artifact: Artifact, path: Path) -> Part:
    versions, refused = _versions_and_refusals(artifact, path)
    return Part(
        name=artifact.stage,
        format=artifact.format,
        precision=artifact.precision,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        inputs=tuple(map(_of_manifest, artifact.inputs)),
        outputs=tuple(map(_of_manifest, artifact.outputs)),
        versions=artifact.toolchain | versions,
        refused=refused,
    )


def _versions_and_refusals(artifact: Artifact, path: Path) -> tuple[dict[str, str], tuple[Refusal, ...]]:
    if artifact.format.startswith("onnx-"):
        head = read_onnx_head(path)
        return onnx_versions(head), of_onnx(head, artifact.precision)
    if artifact.format.startswith("tensorrt-"):
        plan, flags = read_plan(path), artifact.details.get("engine", {}).get("flags", {})
        compatible = bool(flags.get("version_compatible"))
        needs = engine_needs(artifact, plan)
        return {plan.library: plan.version_text}, of_engine(plan, needs, version_compatible=compatible)
    if artifact.format.startswith("openvino-"):
        return {}, of_openvino()
    return {}, of_format(artifact.format)


def _service(config: Any) -> str:
    if config.platform == "ensemble":
        return "ensemble"
    group = config.instance_group[0] if config.instance_group else model_config_pb2.ModelInstanceGroup()
    where = f"GPU {', '.join(map(str, group.gpus))}" if group.gpus else "CPU"
    return f"{config.backend}, {group.count} on {where}, batches of {config.max_batch_size} at most"


def _model(config: Any, version: Path) -> Part:
    taken, given = tuple(map(_of_config, config.input)), tuple(map(_of_config, config.output))
    backend = config.backend or config.platform
    file = next((version / name for name in _READERS if (version / name).is_file()), None)
    if file is None:
        return Part(config.name, backend, inputs=taken, outputs=given)
    read, package = _READERS[file.name]
    found = read(file) if not package or importlib.util.find_spec(package) is not None else None
    return Part(
        name=config.name,
        format=backend,
        precision=found.precision if found else "",
        bytes=found.bytes if found else file.stat().st_size,
        sha256=sha256_of(file),
        inputs=taken,
        outputs=given,
        versions=found.versions if found else {},
        refused=found.refused if found else _refused_unread(file),
    )


def _refused_unread(file: Path) -> tuple[Refusal, ...]:
    return of_openvino() if file.suffix == ".xml" else of_onnx(read_onnx_head(file), "")


def _of_config(tensor: Any) -> Tensor:
    kind = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_").lower()
    return Tensor(tensor.name, kind, ("B", *tensor.dims))
