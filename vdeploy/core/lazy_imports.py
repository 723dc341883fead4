"""Deferred imports of optional packages, TensorFlow and Keras."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from vdeploy.core.errors import MissingExtraError, UserError
from vdeploy.core.telemetry import disable_telemetry

__all__ = ["load_keras", "load_tensorflow", "require"]

_PURPOSE = "training and feature extraction"


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports an optional module, or names the extra that installs it.

    Args:
        module: Dotted name of the module, for example ``"onnxruntime"``.
        extra: The extra that installs it.
        purpose: What needs it, as the beginning of a sentence.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The module is not installed.
    """
    disable_telemetry()
    try:
        with _without_collections():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingExtraError(module, extra, purpose) from error


@functools.cache
def load_tensorflow() -> ModuleType:
    """Imports TensorFlow and selects it as the backend of Keras.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    with _quiet_stderr():
        return require("tensorflow", extra="train", purpose=_PURPOSE)


@functools.cache
def load_keras() -> ModuleType:
    """Imports Keras on TensorFlow, with float32 and channels last regardless of ``keras.json``.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        UserError: This process has imported Keras on another backend.
    """
    if "keras" in sys.modules and (backend := sys.modules["keras"].config.backend()) != "tensorflow":
        raise UserError(
            f"Keras was imported on {backend} before, and vdeploy needs it on TensorFlow",
            "set KERAS_BACKEND=tensorflow, or import vdeploy first",
        )
    load_tensorflow()
    keras = require("keras", extra="train", purpose=_PURPOSE)
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    return keras


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Collects no garbage: an import makes objects that stay, and collections take a fifth of TensorFlow's."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Suppresses what native code writes to stderr unless the block fails.

    TensorFlow logs CPU features and missing CUDA libraries before its own log level applies.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
