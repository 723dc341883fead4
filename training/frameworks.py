"""TensorFlow and Keras, imported late and without their start-up noise."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from training.errors import require

__all__ = ["load_keras", "load_tensorflow"]


@functools.cache
def load_tensorflow() -> ModuleType:
    """Imports TensorFlow.

    Raises:
        MissingExtraError: It is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _quiet_stderr():
        return require("tensorflow", extra="train", purpose="working with VGG19 and the classifier")


@functools.cache
def load_keras() -> ModuleType:
    """Imports Keras on TensorFlow.

    Raises:
        MissingExtraError: It is not installed.
    """
    load_tensorflow()
    return require("keras", extra="train", purpose="working with VGG19 and the classifier")


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes to stderr, and lets it through only if the block fails.

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
