"""Library versions and GPUs of a server, given by the user or read from its installation."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import mmap
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.server.install import TritonInstall

__all__ = ["Target", "Version", "find_target", "parse_version", "version_text"]

Version = tuple[int, ...]

_LIBRARY_FOLDERS = (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path("/usr/local/tensorrt/lib"))
_ORT_SYMBOL = re.compile(rb"VERS_(\d+\.\d+\.\d+)\0")
_TENSORRT_FILE = re.compile(r"libnvinfer\.so\.(\d+\.\d+\.\d+)")
_SMI_TIMEOUT_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Target:
    """What is known of the machine and the server; `None` or empty is unknown.

    Attributes:
        capabilities: Compute capabilities of its GPUs, 89 for 8.9.
        tensorrt: Version of its TensorRT.
        onnxruntime: Version of the ONNX Runtime of Triton's own backend.
        python_onnxruntime: Version of the ONNX Runtime that the Python backend imports.
        lacks_openvino: Whether the Python backend is known to have no OpenVINO to import.
    """

    capabilities: tuple[int, ...] = ()
    tensorrt: Version | None = None
    onnxruntime: Version | None = None
    python_onnxruntime: Version | None = None
    lacks_openvino: bool = False


def find_target(
    install: TritonInstall | None,
    *,
    capabilities: Iterable[int] = (),
    tensorrt: Version | None = None,
    onnxruntime: Version | None = None,
) -> Target:
    """Reads from the server and this machine what the user has not given.

    Args:
        install: The server, or `None` where it is elsewhere: then nothing is read.
        capabilities: Compute capabilities that the user names.
        tensorrt: The version that the user names.
        onnxruntime: The version that the user names, of whichever backend runs ONNX files.
    """
    given = tuple(capabilities)
    if install is None:
        return Target(given, tensorrt, onnxruntime, onnxruntime)
    return Target(
        given or _local_capabilities(),
        tensorrt or _tensorrt_version(install),
        onnxruntime or _onnxruntime_version(install),
        onnxruntime or _python_version_of("onnxruntime"),
        importlib.util.find_spec("openvino") is None,
    )


def parse_version(text: str) -> Version:
    """Reads a version such as `10.13.2`.

    Raises:
        RepositoryError: It is none.
    """
    if not re.fullmatch(r"\d+(\.\d+){1,3}", text):
        raise RepositoryError(f"{text!r} is no version", "give numbers with dots, such as 10.13.2")
    return tuple(int(part) for part in text.split("."))


def version_text(version: Version) -> str:
    """The version, with dots."""
    return ".".join(map(str, version))


def _onnxruntime_version(install: TritonInstall) -> Version | None:
    """The version that the library names its symbols after."""
    library = install.backends / "onnxruntime" / "libonnxruntime.so"
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = _ORT_SYMBOL.search(content)
            return parse_version(found[1].decode()) if found else None
    except (OSError, ValueError):
        return None


def _tensorrt_version(install: TritonInstall) -> Version | None:
    for folder in (install.libraries, install.backends / "tensorrt", *_LIBRARY_FOLDERS):
        for file in sorted(folder.glob("libnvinfer.so.*")):
            if found := _TENSORRT_FILE.fullmatch(file.name):
                return parse_version(found[1])
    return None


def _local_capabilities() -> tuple[int, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = (re.fullmatch(r"(\d+)\.(\d)", line.strip()) for line in done.stdout.splitlines())
    return tuple(int(found[1] + found[2]) for found in lines if found)


def _python_version_of(package: str) -> Version | None:
    try:
        return parse_version(importlib.metadata.version(package))
    except (importlib.metadata.PackageNotFoundError, RepositoryError):
        return None
