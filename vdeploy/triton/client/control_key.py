"""The secret without which nobody loads or unloads a model of a server that `vdeploy serve` has started.

Triton's model control takes files from whoever may call it, and runs them. So the server asks for a secret, in a
header, that lies in its repository, readable to its owner alone: whoever may put a model there may have it loaded, and
nobody else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from vdeploy.core.files import write_text
from vdeploy.triton.names import DEPLOYMENTS

__all__ = ["VARIABLE", "control_key", "ensure_control_key", "key_headers", "server_options"]

VARIABLE = "VDEPLOY_TRITON_KEY"
"""Environment variable with the secret, where the repository cannot be read."""

_FILE = Path(DEPLOYMENTS) / "control-key"
_HEADER = "vdeploy-key"
_CONTROL = "model-repository"
_MEMORY = "shared-memory"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def ensure_control_key(root: Path) -> str:
    """The secret of a repository, made where there is none.

    Where it cannot be written, nobody else learns the secret: who cannot write a repository deploys nothing.

    Args:
        root: The repository.
    """
    if known := control_key(root):
        return known
    key = secrets.token_urlsafe(24)
    with contextlib.suppress(OSError):
        (root / _FILE).parent.mkdir(parents=True, exist_ok=True)
        mask = os.umask(0o077)
        try:
            write_text(root / _FILE, key)
        finally:
            os.umask(mask)
    return key


def control_key(root: Path | None) -> str | None:
    """The secret of a repository, or the one in the environment; `None` where there is neither.

    Args:
        root: The repository; `None` where only the server is known.
    """
    if given := os.environ.get(VARIABLE):
        return given
    if root is not None:
        with contextlib.suppress(OSError):
            return (root / _FILE).read_text(encoding="utf-8").strip() or None
    return None


def server_options(key: str, host: str) -> list[str]:
    """Options of `tritonserver` that keep others out of model control and, beyond this machine, of shared memory.

    Args:
        key: The secret.
        host: The address that the server listens on.
    """
    guarded = _CONTROL if host in _LOOPBACK else f"{_CONTROL},{_MEMORY}"
    return [f"--http-restricted-api={guarded}:{_HEADER}={key}", f"--grpc-restricted-protocol={guarded}:{_HEADER}={key}"]


def key_headers(key: str | None) -> dict[str, str]:
    """Headers of a gRPC request that carry the secret."""
    return {} if key is None else {f"triton-grpc-protocol-{_HEADER}": key}
