"""Find an installed Triton server, or fetch NVIDIA's binary from the nvidia-pytriton wheel."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from vdeploy.artifacts.bundle import digest_of
from vdeploy.core.child_python import python_command
from vdeploy.core.errors import ServerError
from vdeploy.core.files import cache_dir, publish_folder, staging_folder
from vdeploy.core.locks import folder_lock
from vdeploy.core.progress import say

__all__ = ["TritonInstall", "find_install", "from_wheel_tree", "local_install"]

WHEEL = "nvidia-pytriton"
WHEEL_VERSION = "0.7.0"
WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
TREE_SHA256 = "ddf081e0495ab27e7897d6fd20f5272829f6a898ed6ef7457a1c2eb275c4782c"
"""Of what `_unpack` takes from the wheel, as `vdeploy.artifacts.bundle.digest_of` has it."""
TRITON_OF_WHEEL = {"0.7.0": "2.51.0"}
SAFE_VERSION = (2, 59)
"""The first release with the repairs of CVE-2025-23310, -23311 and -23317 (25.07)."""
MIN_GLIBC = (2, 35)
FETCH_TIMEOUT_SECONDS = 600

_KEPT = ("pytriton/tritonserver/", "nvidia_pytriton.libs/")


@dataclasses.dataclass(frozen=True)
class TritonInstall:
    """A Triton server on this machine.

    Attributes:
        binary: The `tritonserver` program.
        backends: Its folder of backends.
        stubs: Python backend stubs by Python version (`"3.11"`), where they lie outside of the backend's folder; empty
            for an install whose Python backend is complete.
        libraries: Shared libraries that the server brings.
        version: Its version, `""` where it can only be known by starting it.
        origin: Where it was found, for messages.
    """

    binary: Path
    backends: Path
    stubs: Mapping[str, Path]
    libraries: Path
    version: str
    origin: str

    @property
    def has_known_holes(self) -> bool:
        """Whether this is a version before the repairs of CVE-2025-23310 and its kind; `False` where unknown."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return found is not None and (int(found[1]), int(found[2])) < SAFE_VERSION

    def has_backend(self, name: str) -> bool:
        """Whether the server has a backend, for example `"onnxruntime"`, `"tensorrt"` or `"python"`."""
        return (self.backends / name / f"libtriton_{name}.so").is_file()


def find_install(binary: Path | None = None) -> TritonInstall:
    """Finds a Triton server, and fetches one where there is none.

    In this order: `binary`, `tritonserver` on `PATH`, an installed nvidia-pytriton, the cache, the package index.

    Args:
        binary: A `tritonserver` program to take.

    Raises:
        ServerError: There is none and none can be had.
    """
    if install := local_install(binary):
        return install
    _check_platform()
    with _exclusive():
        if not (_cached().is_dir() and digest_of(_cached()) == TREE_SHA256):
            _fetch(_cached())
    return from_wheel_tree(_cached(), WHEEL_VERSION, f"the cache {_cached()}")


def local_install(binary: Path | None = None) -> TritonInstall | None:
    """Finds a Triton server that is here already, as `find_install` does, or answers `None`.

    Raises:
        ServerError: What was found cannot be run.
    """
    if binary is not None:
        return _from_binary(binary, "the given path")
    if on_path := shutil.which("tritonserver"):
        return _from_binary(Path(on_path), "PATH")
    if installed := _from_site_packages():
        return installed
    if _cached().is_dir() and _is_intact(_cached()):
        return from_wheel_tree(_cached(), WHEEL_VERSION, f"the cache {_cached()}")
    return None


def from_wheel_tree(root: Path, wheel_version: str, origin: str) -> TritonInstall:
    """Describes the server in an unpacked or installed nvidia-pytriton.

    Args:
        root: The folder that holds `pytriton/` and `nvidia_pytriton.libs/`.
        wheel_version: The wheel's version.
        origin: Where it was found, for messages.

    Raises:
        ServerError: It is not complete.
    """
    server = root / "pytriton" / "tritonserver"
    binary = server / "bin" / "tritonserver"
    if not os.access(binary, os.X_OK):
        raise ServerError(f"{root} holds no runnable {binary.relative_to(root)}", f"delete {root} and start again")
    stubs = {
        file.parent.name: file for file in sorted(server.glob("python_backend_stubs/*/triton_python_backend_stub"))
    }
    return TritonInstall(
        binary=binary,
        backends=server / "backends",
        stubs=stubs,
        libraries=root / "nvidia_pytriton.libs",
        version=TRITON_OF_WHEEL.get(wheel_version, ""),
        origin=origin,
    )


def _from_binary(path: Path, origin: str) -> TritonInstall:
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ServerError(f"{path} is not a program that can be run", "give the path of tritonserver itself")
    binary = path.resolve()
    if binary.parts[-4:-1] == ("pytriton", "tritonserver", "bin"):
        return from_wheel_tree(binary.parents[3], WHEEL_VERSION, origin)
    home = binary.parent.parent
    version = home / "TRITON_VERSION"
    return TritonInstall(
        binary=binary,
        backends=home / "backends",
        stubs={},
        libraries=home / "lib",
        version=version.read_text(encoding="utf-8").strip() if version.is_file() else "",
        origin=origin,
    )


def _from_site_packages() -> TritonInstall | None:
    try:
        distribution = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return None
    return from_wheel_tree(Path(str(distribution.locate_file(""))), distribution.version, f"{WHEEL} in site-packages")


def _cached() -> Path:
    return cache_dir() / "triton" / WHEEL_VERSION


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    """Waits for a process that is fetching the server, and keeps others from it while the block lasts."""
    try:
        with folder_lock(_cached(), "set VDEPLOY_CACHE to another folder", wait_seconds=FETCH_TIMEOUT_SECONDS):
            yield
    except OSError as error:
        raise ServerError(
            f"Triton cannot be unpacked into {_cached()} ({error})",
            "set VDEPLOY_CACHE to a writable folder with 150 MB",
        ) from error


def _is_intact(root: Path) -> bool:
    """Whether the cached server is what was unpacked from the wheel, whose hash was checked."""
    if digest_of(root) == TREE_SHA256:
        return True
    say(f"the cached Triton in {root} is not what was unpacked there; it is fetched again")
    return False


def _check_platform() -> None:
    kind, glibc = platform.libc_ver()
    found = f"{platform.system()} {platform.machine()} with {kind or 'another C library'} {glibc}".strip()
    new_enough = kind == "glibc" and tuple(int(part) for part in re.findall(r"\d+", glibc)[:2]) >= MIN_GLIBC
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not new_enough:
        wanted = ".".join(str(part) for part in MIN_GLIBC)
        raise ServerError(
            f"NVIDIA's Triton binary runs on Linux x86_64 with glibc {wanted} or newer, this is {found}",
            "use the container image of Triton, or give the path of a tritonserver of your own",
        )


def _fetch(final: Path) -> None:
    say(f"fetching Triton {TRITON_OF_WHEEL[WHEEL_VERSION]} (55 MB, once)")
    with staging_folder(final) as staged, tempfile.TemporaryDirectory() as downloads:
        _unpack(_download(Path(downloads)), staged)
        publish_folder(staged, final)


def _download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{WHEEL}=={WHEEL_VERSION} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = python_command("pip", "download", "--quiet", "--disable-pip-version-check", "--no-input")
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--requirement", str(requirements), "--dest", str(folder)]
    hint = f"look at the network, or install it by hand: pip install --no-deps {WHEEL}=={WHEEL_VERSION}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"fetching {WHEEL} took longer than {FETCH_TIMEOUT_SECONDS} s", hint) from error
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        errors = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise ServerError(
            f"{WHEEL} {WHEEL_VERSION} could not be fetched ({errors[-1] if errors else 'no reason given'})", hint
        )
    return wheel


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.startswith(_KEPT) or "/licenses/" in member:
                archive.extract(member, folder)
    server = folder / "pytriton" / "tritonserver"
    for program in (server / "bin" / "tritonserver", *server.glob("python_backend_stubs/*/*")):
        program.chmod(program.stat().st_mode | 0o755)
