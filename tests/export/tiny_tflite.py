"""TFLite files of one matrix product, by the real converter: a second or so each, in every precision there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["INPUTS", "OUTPUTS", "WIDTH", "write_tiny_tflite"]

WIDTH = 64
INPUTS, OUTPUTS = "features", "probabilities"


def write_tiny_tflite(
    path: Path, precision: str, *, io: str = "float32", steps: int = 1, body: Any = None, shape: Any = None
) -> Any:
    """Writes ``features [1, steps, 64]`` -> ``probabilities [1, steps, 64]``, a product and a tangent.

    Args:
        path: Where the file goes.
        precision: "fp32", "fp16", "dynamic", "int8" (falls back to float where it must) or "flex".
        io: Type of input and output of an int8 file.
        steps: Length of the second axis.
        body: What comes after the product, a tangent if left out.
        shape: Shape of the output, to break the rule above.

    Returns:
        The weights, ``float32[64, 64]``.
    """
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = (random.normal(size=(WIDTH, WIDTH)) / 8).astype(np.float32)
    spec = tf.TensorSpec((1, steps, WIDTH), tf.float32, name=INPUTS)

    @tf.function(input_signature=[spec])
    def function(features):
        flat = tf.matmul(tf.reshape(features, (-1, WIDTH)), tf.constant(kernel))
        return {OUTPUTS: tf.reshape((body or tf.tanh)(flat), shape or (1, steps, WIDTH))}

    folder = path.with_suffix(".saved")
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": function})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    if precision in {"fp16", "dynamic", "int8"}:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "flex":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    if precision == "int8":
        samples = random.normal(size=(32, *spec.shape)).astype(np.float32)
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)
    path.write_bytes(converter.convert())
    return kernel
