"""Stand-ins for the base images, which only a registry has: a bare Debian with Python, and one with Triton in it.

What a build needs on this machine to reach a package index, its certificates and pip's index, is baked in here, so that
the project's own Dockerfiles know nothing of it.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

from testing.debian import make_root_file_system
from tests.docker.engine import Engine
from vdeploy.triton.server.install import TritonInstall

__all__ = ["PYTHON_IMAGE", "TRITON_IMAGE", "make_python_image", "make_triton_image"]

PYTHON_IMAGE = "standin-python:1"
TRITON_IMAGE = "standin-triton:1"
PACKAGES = ("ca-certificates", "libpython3.11", "python3", "python3-pip")
PYTHON = "3.11"

_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def make_python_image(engine: Engine, folder: Path) -> None:
    """Makes `PYTHON_IMAGE`.

    Raises:
        Unavailable: The packages cannot be had.
    """
    engine.docker("import", make_root_file_system(PACKAGES), "standin-debian:1")
    ours = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or _CERTIFICATES
    shutil.copyfile(ours, folder / "certificates.crt")
    (folder / "Dockerfile").write_text(
        f"FROM standin-debian:1\nCOPY certificates.crt {_CERTIFICATES}\n"
        f"ENV PIP_CERT={_CERTIFICATES} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_DEFAULT_TIMEOUT=60"
        f"{_index()}\n"
    )
    engine.docker("build", "--tag", PYTHON_IMAGE, folder)


def make_triton_image(engine: Engine, install: TritonInstall, folder: Path) -> None:
    """Makes `TRITON_IMAGE`: `PYTHON_IMAGE` with a Triton laid out as in NVIDIA's images."""
    home = folder / "tritonserver"
    shutil.copytree(install.backends, home / "backends")
    shutil.copytree(install.libraries, home / "lib")
    stub = shutil.copy(install.stubs[PYTHON], home / "backends" / "python")
    Path(stub).chmod(0o755)
    (home / "bin").mkdir()
    shutil.copy(install.binary, home / "bin")
    (home / "TRITON_VERSION").write_text(f"{install.version}\n")
    (folder / "Dockerfile").write_text(
        f"FROM {PYTHON_IMAGE}\nCOPY tritonserver /opt/tritonserver\n"
        "ENV PATH=/opt/tritonserver/bin:$PATH LD_LIBRARY_PATH=/opt/tritonserver/lib\n"
    )
    engine.docker("build", "--tag", TRITON_IMAGE, folder)


def _index() -> str:
    """This machine's package index, where pip is told of another than its own."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    url = os.environ.get("PIP_INDEX_URL") or done.stdout.strip()
    return f" PIP_INDEX_URL={url}" if url else ""
