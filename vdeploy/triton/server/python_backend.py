"""Assemble the backends of the nvidia-pytriton wheel, its Python backend for the running Python."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vdeploy.core.errors import MissingExtraError, ServerError
from vdeploy.triton.server.install import TritonInstall

__all__ = ["assemble_backends", "find_libpython", "library_path"]

_EXTRAS = {"openvino": "openvino"}
_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def assemble_backends(
    install: TritonInstall,
    folder: Path,
    runtimes: Iterable[str] = ("onnxruntime",),
    others: Iterable[str] = (),
) -> dict[str, str]:
    """Links the Python backend, the stub for the running Python and its libpython together, and other backends as well.

    Args:
        install: A server with stubs.
        folder: Takes `backends/` and `lib/`.
        runtimes: Modules that the models import beside numpy.
        others: Backends beside the Python one that the models need: Triton looks for all of them in one folder.

    Returns:
        Environment variables with which the stub finds its libraries and runs in this Python's environment.

    Raises:
        MissingExtraError: What the models import is not installed here.
        ServerError: The server has no stub for this Python, or this Python has no shared library.
    """
    for module in ("numpy", *runtimes):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, _EXTRAS.get(module, "triton"), "a Triton server with the Python backend")
    stub, libpython = _stub(install), find_libpython(install)
    backend, libraries = folder / "backends" / "python", folder / "lib"
    backend.mkdir(parents=True)
    libraries.mkdir()
    for part in (*(install.backends / "python").iterdir(), stub):
        (backend / part.name).symlink_to(part)
    for other in others:
        (backend.parent / other).symlink_to(install.backends / other)
    if libpython is not None:
        (libraries / _libpython_name()).symlink_to(libpython)
    return {
        "LD_LIBRARY_PATH": _joined(libraries, library_path(install)),
        "PATH": _joined(Path(sys.executable).parent, os.environ.get("PATH", os.defpath)),
    }


def library_path(install: TritonInstall) -> str:
    """Where the libraries of a wheel's server are found, those of backends that a user has added among them."""
    return _joined(install.libraries, os.environ.get("LD_LIBRARY_PATH"))


def find_libpython(install: TritonInstall) -> Path | None:
    """The shared library of the running Python, which a stub of the wheel loads.

    Args:
        install: The server; its own libraries may hold it.

    Returns:
        The file, or `None` where the server brings its own.

    Raises:
        ServerError: It is not on this machine.
    """
    major, minor = sys.version_info[:2]
    if next(install.libraries.glob(f"libpython{major}-*.{minor}.so.1.0"), None):
        return None
    name = _libpython_name()
    for folder in _library_folders():
        if (file := folder / name).is_file():
            return file.resolve()
    if file_of_linker := _linker_cache().get(name):
        return file_of_linker
    raise ServerError(
        f"Triton's Python backend needs {name}, and this Python has none",
        f"run: apt-get install libpython{major}.{minor}, or use a Python that was built with --enable-shared",
    )


def _stub(install: TritonInstall) -> Path:
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if running not in install.stubs:
        held = ", ".join(sorted(install.stubs, key=lambda version: int(version.split(".")[1])))
        raise ServerError(
            f"the Triton server of {install.origin} has no Python backend for Python {running}, only for {held}",
            "run vdeploy with one of these",
        )
    return install.stubs[running]


def _libpython_name() -> str:
    return f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


def _joined(*folders: Path | str | None) -> str:
    return os.pathsep.join(str(folder) for folder in folders if folder)


def _library_folders() -> Iterator[Path]:
    if folder := sysconfig.get_config_var("LIBDIR"):
        yield Path(str(folder))
    yield Path(sys.base_prefix) / "lib"
    for name in _LIBRARY_FOLDERS:
        yield Path(name)


def _linker_cache() -> Mapping[str, Path]:
    program = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        listing = subprocess.run([program, "-p"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.strip().split(" => ") for line in listing.splitlines() if " => " in line)
    return {entry.split(" ")[0]: Path(file) for entry, file in pairs}
