"""A TensorFlow function to the bytes of a TFLite file, by a converter that may crash without taking us along."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.child_python import python_command
from vdeploy.core.errors import ExportError
from vdeploy.core.lazy_imports import load_tensorflow

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["convert"]

_CHILD = Path(__file__).with_name("child.py")
"""Run by its path: importing it would bring TensorFlow along."""

_NO_OPERATOR = re.compile(r"'(tf\.\w+)' op is neither a custom op nor a flex op")


def convert(
    folder: Path,
    function: Any,
    variables: Iterable[Any],
    input_type: str,
    samples: Iterable[npt.NDArray[Any]] | None = None,
) -> bytes:
    """Converts a function of one input to TFLite with builtin operators only.

    Args:
        folder: An empty folder to work in, on a disk with room for the weights twice.
        function: A `tf.function` with an input signature.
        variables: The variables that the function reads.
        input_type: Type of a quantized file's input: ``"uint8"`` or ``"float32"``; the output is float32.
        samples: Calibration inputs, for full-integer quantization; they are read one by one. float32 if left out.

    Returns:
        The file's bytes.

    Raises:
        ExportError: The converter fails or crashes, or there is no sample.
    """
    if samples is not None:
        _write_samples(folder / "calibration.npy", samples)
    tf = load_tensorflow()
    root = tf.Module()
    root.weights = list(variables)
    tf.saved_model.save(root, str(folder / "model"), signatures={"serving_default": function})
    done = subprocess.run(
        python_command(_CHILD, folder, input_type),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise _failure(done)
    written = folder / "model.tflite"
    if not written.is_file():
        raise ExportError("the TFLite converter wrote nothing", "report this with the versions of vdeploy doctor")
    return written.read_bytes()


def _write_samples(file: Path, samples: Iterable[npt.NDArray[Any]]) -> None:
    count = 0
    with file.open("wb") as arrays:
        for sample in samples:
            np.save(arrays, sample)
            count += 1
    if not count:
        raise ExportError("INT8 quantization has no calibration data", "give it real clips: --data CLIPS")


def _failure(done: subprocess.CompletedProcess[str]) -> ExportError:
    """How a child process ended, in one line."""
    hint = "report this with the versions of vdeploy doctor"
    if done.returncode == -signal.SIGKILL:
        return ExportError("the TFLite converter was killed", "it may have run out of memory: free some and try again")
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return ExportError(f"the TFLite converter crashed ({name})", hint)
    if missing := sorted(set(_NO_OPERATOR.findall(done.stderr))):
        return ExportError(f"TFLite has no operator {' and no '.join(missing)}", "export another format")
    lines = done.stderr.strip().splitlines()
    return ExportError(f"the TFLite converter failed ({lines[-1] if lines else f'exit code {done.returncode}'})", hint)
