"""Writing a stage as TFLite: one clip's features, or one frame, at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ExportError
from vdeploy.core.files import atomic_write, staging_folder
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.export.lowering.choose import extractor_graph, head_graph
from vdeploy.export.tflite.conversion import convert
from vdeploy.export.tflite.metadata import Metadata, add_metadata
from vdeploy.models.extractor import FeatureExtractor

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["classifier_to_tflite", "extractor_to_tflite"]

Calibration = Iterable["npt.NDArray[Any]"]


def extractor_to_tflite(
    extractor: FeatureExtractor, path: Path, metadata: Metadata, calibration: Calibration | None = None
) -> None:
    """Writes a backbone for one frame: ``frames uint8[1, 1, H, W, 3]`` -> ``features [1, 1, F]``.

    One frame at a time keeps its feature maps in the caches of a CPU, and any number of frames makes a clip. A backbone
    that looks at whole clips takes one: ``frames uint8[1, T, H, W, 3]`` -> ``features [1, t, F]``.

    Args:
        extractor: The backbone with its weights.
        path: Where the file goes; what stands there is replaced in one step.
        metadata: What is written into the file.
        calibration: For full-integer INT8: ``frames uint8[..., H, W, 3]`` of real training clips, with any axes in
            front, read once and one by one; float32 if left out.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ExportError: The converter fails or crashes, there is no calibration data, or the file cannot be written.
    """
    tf, graph = load_tensorflow(), extractor_graph(extractor)
    quantized = calibration is not None

    time, pixel_shape = graph.frames or 1, (graph.size, graph.size, 3)
    lead = (1,) if graph.frames is None else (1, graph.frames)

    def compute(frames: Any) -> dict[str, Any]:
        pixels = tf.cast(tf.reshape(frames, (*lead, *pixel_shape)), tf.float32)
        if quantized:
            # States the range of a byte, so that the file's input is the byte itself whatever the calibration holds.
            pixels = tf.quantization.fake_quant_with_min_max_args(pixels, 0.0, 255.0)
        return {"features": tf.reshape(graph(pixels), (1, graph.steps or 1, graph.dim))}

    compute.__name__ = extractor.backbone.model_name
    shape = (1, time, *pixel_shape)
    spec = tf.TensorSpec(shape, tf.float32 if quantized else tf.uint8, name="frames")
    function = tf.function(compute, input_signature=[spec])
    _write(path, metadata, _Network(function, graph.variables, shape, sample_axes=3, input_type="uint8"), calibration)


def classifier_to_tflite(
    model: keras.Model, path: Path, metadata: Metadata, calibration: Calibration | None = None
) -> None:
    """Writes the classifier for one clip: ``features [1, T, F]`` -> ``probabilities [1, 2]``.

    Args:
        model: The Keras classifier.
        path: Where the file goes; what stands there is replaced in one step.
        metadata: What is written into the file.
        calibration: For full-integer INT8: ``features float32[..., T, F]``, as for `extractor_to_tflite`. Features and
            probabilities stay float32 in the file.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ExportError: The converter fails or crashes, there is no calibration data, or the file cannot be written.
    """
    tf, graph = load_tensorflow(), head_graph(model)
    shape = (1, graph.frames, graph.dim)

    def compute(features: Any) -> dict[str, Any]:
        return {"probabilities": graph(features)}

    compute.__name__ = model.name
    function = tf.function(compute, input_signature=[tf.TensorSpec(shape, tf.float32, name="features")])
    _write(path, metadata, _Network(function, graph.variables, shape, sample_axes=2, input_type="float32"), calibration)


@dataclasses.dataclass(frozen=True)
class _Network:
    """A stage, ready to be converted.

    Attributes:
        function: A `tf.function`.
        variables: What it reads.
        shape: Shape of its input.
        sample_axes: How many of the input's last axes a calibration array has for certain.
        input_type: Type of the input in the file.
    """

    function: Any
    variables: Sequence[Any]
    shape: tuple[int, ...]
    sample_axes: int
    input_type: str

    def samples(self, calibration: Calibration) -> Iterator[npt.NDArray[Any]]:
        """Cuts calibration data into inputs, and checks it."""
        inner = self.shape[-self.sample_axes :]
        for array in calibration:
            if array.shape[-self.sample_axes :] != inner:
                raise ExportError(
                    f"calibration data has shape {list(array.shape)}, not [..., {', '.join(map(str, inner))}]",
                    "calibrate with the clips and the recipe of the run",
                )
            if not np.isfinite(array).all():
                raise ExportError(
                    "calibration data holds NaN or infinity", "check the clips and the weights of the backbone"
                )
            yield from array.reshape(-1, *self.shape)


def _write(path: Path, metadata: Metadata, network: _Network, calibration: Calibration | None) -> None:
    samples = None if calibration is None else network.samples(calibration)
    tf = load_tensorflow()
    try:
        with staging_folder(path) as folder:
            content = convert(folder, network.function, network.variables, network.input_type, samples)
        with atomic_write(path) as file:
            file.write(add_metadata(content, metadata))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise ExportError(f"cannot write {path} ({reason})", "free some space or choose another --out") from error
