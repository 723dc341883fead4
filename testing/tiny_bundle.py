"""A whole bundle in a few kilobytes: two small ONNX stages with known arithmetic, made without TensorFlow."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from vdeploy.artifacts.bundle import (
    CLASSES,
    MANIFEST,
    SCHEMA_VERSION,
    Artifact,
    Bundle,
    Manifest,
    Parity,
    Stage,
    StageInfo,
    TensorSpec,
)
from vdeploy.core.files import sha256_of, write_json
from vdeploy.video.clips import ClipSpec
from vdeploy.video.pictures import Fit

__all__ = ["make_tiny_bundle", "tiny_probabilities"]

OPSET, IR_VERSION = 17, 9


def make_tiny_bundle(
    folder: Path,
    *,
    frames: int = 4,
    size: int = 32,
    dim: int = 8,
    seed: int = 0,
    architectures: tuple[str, str] = ("vgg19", "lstm"),
    work: int = 0,
    fit: Fit = "squeeze",
    variant: str = "",
) -> Bundle:
    """Writes a bundle whose stages are a colour projection and a linear classifier, and opens it.

    Args:
        folder: The bundle's folder.
        frames: T, frames of a clip.
        size: Height and width of a frame in pixels.
        dim: F, length of a feature vector.
        seed: Of the random weights; another seed gives another bundle.
        architectures: What the manifest calls the two stages.
        work: Multiplications of the features by a unit matrix, which take time (`2 T F^2` operations each) and change
            nothing.
        fit: How pictures become squares.
        variant: Of the backbone, whose weights then are those of a run alone.

    Returns:
        The verified bundle, with the formats `onnx-fp32` of both stages.
    """
    projection, weight = _weights(frames, dim, seed)
    stages: dict[Stage, tuple[onnx.ModelProto, TensorSpec, TensorSpec]] = {
        "extractor": (
            _extractor(projection, work),
            TensorSpec(name="frames", dtype="uint8", shape=("B", "T", size, size, 3)),
            TensorSpec(name="features", dtype="float32", shape=("B", "T", dim)),
        ),
        "classifier": (
            _classifier(weight),
            TensorSpec(name="features", dtype="float32", shape=("B", frames, dim)),
            TensorSpec(name="probabilities", dtype="float32", shape=("B", 2)),
        ),
    }
    artifacts = []
    for stage, (model, taken, given) in stages.items():
        model.graph.input.append(_value(taken))
        model.graph.output.append(_value(given))
        onnx.checker.check_model(model)
        file = folder / stage / "onnx-fp32" / "model.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(model.SerializeToString())
        artifacts.append(
            Artifact(
                stage=stage,
                format="onnx-fp32",
                precision="fp32",
                path=file.relative_to(folder).as_posix(),
                sha256=sha256_of(file),
                bytes=file.stat().st_size,
                inputs=(taken,),
                outputs=(given,),
                parity=Parity(reference="numpy", batches=(1,), max_abs=0.0, max_rel=0.0, tolerance=1e-5),
                toolchain={"opset": str(OPSET)},
            )
        )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        vdeploy_version="0.1.0",
        created="2025-01-01T00:00:00Z",
        run="tiny",
        classes=CLASSES,
        threshold=0.5,
        temperature=1.0,
        clip=ClipSpec(frames=frames, size=size, fit=fit).to_dict(),
        stages=tuple(
            StageInfo(
                id=stage,
                architecture=architecture,
                settings={"layer": "avg"} if architecture == "vgg19" else {},
                input=taken,
                output=given,
                weights="random",
                weights_sha256="0" * 64,
                variant=variant if stage == "extractor" else "",
            )
            for architecture, (stage, (_, taken, given)) in zip(architectures, stages.items(), strict=True)
        ),
        metrics={},
        artifacts=tuple(artifacts),
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return Bundle(folder)


def tiny_probabilities(clips: npt.NDArray[np.uint8], *, dim: int = 8, seed: int = 0) -> npt.NDArray[np.float32]:
    """What the tiny bundle's two stages compute, in numpy.

    Args:
        clips: `uint8[B, T, S, S, 3]`.
        dim: As given to `make_tiny_bundle`.
        seed: As given to `make_tiny_bundle`.

    Returns:
        `float32[B, 2]`.
    """
    projection, weight = _weights(clips.shape[1], dim, seed)
    features = clips.astype(np.float32).mean(axis=(2, 3)) @ projection
    logits = features.reshape(len(clips), -1) @ weight
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _weights(frames: int, dim: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    projection = random.normal(size=(3, dim)) / 64
    weight = random.normal(size=(frames * dim, 2)) / np.sqrt(frames * dim)
    return projection.astype(np.float32), weight.astype(np.float32)


def _extractor(projection: npt.NDArray[np.float32], work: int) -> onnx.ModelProto:
    unit = [numpy_helper.from_array(np.eye(projection.shape[1], dtype=np.float32), "unit")] if work else []
    names = [*(f"features_{number}" for number in range(work)), "features"]
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["colour"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["colour", "projection"], names[:1]),
        *(helper.make_node("MatMul", [before, "unit"], [after]) for before, after in itertools.pairwise(names)),
    ]
    return _model("extractor", nodes, [numpy_helper.from_array(projection, "projection"), *unit])


def _classifier(weight: npt.NDArray[np.float32]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Flatten", ["features"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return _model("classifier", nodes, [numpy_helper.from_array(weight, "weight")])


def _model(name: str, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, [], [], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    kind = TensorProto.UINT8 if spec.dtype == "uint8" else TensorProto.FLOAT
    return helper.make_tensor_value_info(spec.name, kind, list(spec.shape))
