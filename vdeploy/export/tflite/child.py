"""The TFLite converter in a process of its own, for it can crash; run as a script, with TensorFlow and nothing of ours.

Usage: ``python child.py FOLDER INPUT_TYPE``. The folder holds ``model``, a SavedModel with one signature, and for
quantization ``calibration.npy``, arrays written one after the other; the input is of ``INPUT_TYPE`` then. What is made
is ``model.tflite``; what goes wrong is the last line of stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["convert"]


def convert(folder: Path, input_type: str) -> None:
    """Converts the SavedModel in a folder; see the module."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "model"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    calibration = folder / "calibration.npy"
    if calibration.is_file():
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _samples(calibration)
        converter.inference_input_type = tf.as_dtype(input_type)
    (folder / "model.tflite").write_bytes(converter.convert())


def _samples(file: Path) -> Iterator[list[Any]]:
    with file.open("rb") as arrays:
        while arrays.peek(1):
            yield [np.load(arrays).astype(np.float32)]


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), sys.argv[2])
    except Exception as error:
        # The first line says what is wrong; a dump of the whole graph follows it.
        sys.exit(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
