"""SavedModel: each stage by itself, and both as one pipeline that takes frames or JPEG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import BundleError, ExportError
from vdeploy.core.files import publish_folder, staging_folder
from vdeploy.core.lazy_imports import load_tensorflow, require
from vdeploy.export.lowering.choose import extractor_graph, head_graph
from vdeploy.export.savedmodel.jpeg_graph import decode_jpegs
from vdeploy.models.extractor import FeatureExtractor

if TYPE_CHECKING:
    import keras

__all__ = ["classifier_to_savedmodel", "extractor_to_savedmodel", "found_precision", "pipeline_to_savedmodel"]

SIGNATURE = "serving_default"

_COMPUTE = {"BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul"}
_NAMES = {"DT_FLOAT": "fp32", "DT_HALF": "fp16", "DT_BFLOAT16": "bf16", "DT_DOUBLE": "fp64"}


def extractor_to_savedmodel(extractor: FeatureExtractor, folder: Path) -> None:
    """Writes a backbone: ``frames uint8[B, T, H, W, 3]`` -> ``features float32[B, t, F]``.

    B is free; so is T where frames are looked at one by one.

    Args:
        extractor: The backbone with its weights.
        folder: Where the SavedModel goes; what stands there is replaced in one step.

    Raises:
        ExportError: The folder cannot be written.
    """
    tf, graph = load_tensorflow(), extractor_graph(extractor)
    frames = tf.TensorSpec((None, graph.frames, graph.size, graph.size, 3), tf.uint8, name="frames")
    _save(folder, graph.variables, {SIGNATURE: (lambda frames: {"features": graph.features(frames)}, frames)})


def classifier_to_savedmodel(model: keras.Model, folder: Path) -> None:
    """Writes the classifier: ``features float32[B, T, F]`` -> ``probabilities float32[B, 2]``, B free.

    Args:
        model: The Keras classifier.
        folder: Where the SavedModel goes; what stands there is replaced in one step.

    Raises:
        ExportError: The folder cannot be written.
    """
    tf, graph = load_tensorflow(), head_graph(model)
    features = tf.TensorSpec((None, graph.frames, graph.dim), tf.float32, name="features")
    _save(folder, graph.variables, {SIGNATURE: (lambda features: {"probabilities": graph(features)}, features)})


def pipeline_to_savedmodel(extractor: FeatureExtractor, model: keras.Model, folder: Path) -> None:
    """Writes both stages as one, with a second signature for encoded frames.

    ``serving_default`` maps ``frames uint8[B, T, H, W, 3]`` to ``probabilities float32[B, 2]``; ``jpeg`` takes
    ``frames string[B, T]``, JPEG files, and resizes them; see `vdeploy.export.savedmodel.jpeg_graph`. B is free.

    Args:
        extractor: The backbone with its weights.
        model: The Keras classifier.
        folder: Where the SavedModel goes; what stands there is replaced in one step.

    Raises:
        ExportError: The folder cannot be written.
    """
    tf, backbone, head = load_tensorflow(), extractor_graph(extractor), head_graph(model)
    count, size = extractor.spec.frames, backbone.size

    def from_frames(frames: Any) -> dict[str, Any]:
        return {"probabilities": head(backbone.features(frames))}

    def from_jpegs(frames: Any) -> dict[str, Any]:
        pixels = decode_jpegs(tf.reshape(frames, (-1,)), size, extractor.spec.fit)
        return from_frames(tf.reshape(pixels, (-1, count, size, size, 3)))

    raw = tf.TensorSpec((None, count, size, size, 3), tf.uint8, name="frames")
    encoded = tf.TensorSpec((None, count), tf.string, name="frames")
    signatures = {SIGNATURE: (from_frames, raw), "jpeg": (from_jpegs, encoded)}
    _save(folder, [*backbone.variables, *head.variables], signatures)


def found_precision(path: Path) -> str:
    """Reads the precision out of a SavedModel: the types of its variables and of its convolutions and matrix products.

    Args:
        path: The SavedModel's folder.

    Returns:
        ``"fp32"``, ``"fp16"``, ``"bf16"``, ``"fp64"``, or ``"mixed (...)"`` with all that was found.

    Raises:
        BundleError: The folder holds no SavedModel.
    """
    load_tensorflow()
    protobuf, types = (
        require(f"tensorflow.core.{module}", extra="train", purpose="reading a SavedModel")
        for module in ("protobuf.saved_model_pb2", "framework.types_pb2")
    )
    model = protobuf.SavedModel()
    try:
        model.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's implementations raise exceptions of their own
        raise BundleError(f"{path} holds no SavedModel ({error})", "export the run again") from error
    found = {"variables": set[str](), "operators": set[str]()}
    for meta in model.meta_graphs:
        for node in meta.object_graph_def.nodes:
            if node.WhichOneof("kind") == "variable":
                found["variables"].add(types.DataType.Name(node.variable.dtype))
        functions = [node for function in meta.graph_def.library.function for node in function.node_def]
        for node in (*meta.graph_def.node, *functions):
            if node.op in _COMPUTE:
                found["operators"].add(types.DataType.Name(node.attr["T"].type))
    kinds = set.union(*found.values())
    if len(kinds) == 1 and all(found.values()):
        (kind,) = kinds
        return _NAMES.get(kind, kind)
    listing = ", ".join(f"{part} {'/'.join(sorted(types)) or 'none'}" for part, types in found.items())
    return f"mixed ({listing})"


def _save(
    folder: Path, variables: Sequence[Any], signatures: Mapping[str, tuple[Callable[[Any], dict[str, Any]], Any]]
) -> None:
    tf = load_tensorflow()
    root = tf.Module()
    root.weights = list(variables)
    functions = {name: tf.function(body, input_signature=[spec]) for name, (body, spec) in signatures.items()}
    try:
        with staging_folder(folder) as staged:
            tf.saved_model.save(root, str(staged), signatures=functions)
            # A random identifier, of no use to anything that loads the model: without it equal exports are equal.
            (staged / "fingerprint.pb").unlink(missing_ok=True)
            publish_folder(staged, folder)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise ExportError(
            f"cannot write the SavedModel {folder} ({reason})", "free some space or choose another --out"
        ) from error
