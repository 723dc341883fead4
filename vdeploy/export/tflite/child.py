"""The TFLite converter in a process of its own, for it can crash; run as a script, with TensorFlow and nothing of ours.

Usage: ``python child.py FOLDER``. The folder holds ``model``, a SavedModel with one signature, and for quantization
``calibration.npy``, arrays written one after the other, and ``types.json``, the types of input and output. What is made
is ``model.tflite``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["convert"]


def convert(folder: Path) -> None:
    """Converts the SavedModel in a folder; see the module."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "model"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    types = folder / "types.json"
    if types.is_file():
        taken, given = json.loads(types.read_text(encoding="utf-8"))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _samples(folder / "calibration.npy")
        converter.inference_input_type = tf.as_dtype(taken)
        converter.inference_output_type = tf.as_dtype(given)
    (folder / "model.tflite").write_bytes(converter.convert())


def _samples(file: Path) -> Iterator[list[Any]]:
    with file.open("rb") as arrays:
        while arrays.peek(1):
            yield [np.load(arrays).astype(np.float32)]


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
