"""Connections to a Ray cluster, or to one of this machine alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vdeploy.core.errors import StudyError
from vdeploy.core.lazy_imports import require

__all__ = ["LOCAL", "connected", "import_ray"]

LOCAL = "local"
"""The address that stands for a cluster of this machine alone, started for the occasion."""

_PATIENCE_SECONDS = 5.0
"""How long a cluster may take to answer a knock."""


def import_ray(address: str) -> Any:
    """Import Ray.

    Args:
        address: Of the cluster that is to be used.

    Raises:
        MissingExtraError: It is not installed.
    """
    if address == LOCAL:
        _lock_door()
    return require("ray", extra="ray", purpose="extraction on several machines")


@contextlib.contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """A connection to a cluster; a local one is started for the block and ends with it.

    Args:
        ray: The module.
        address: Of the cluster, as ``ray.init`` takes it, or `LOCAL`.

    Raises:
        StudyError: There is no such cluster.
    """
    options = {"include_dashboard": False} if address == LOCAL else {}
    _check_reachable(address)
    try:
        with _working_directory("/"):  # which Ray has its workers import from first
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, str(error).strip().partition("\n")[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def _lock_door() -> None:
    """Makes a local cluster take no strangers, as its ports are open to the network, and report nothing to anyone.

    Ray reads these variables when it is imported, so an imported Ray keeps the settings that it has.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


@contextlib.contextmanager
def _working_directory(folder: str) -> Iterator[None]:
    earlier = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(earlier)


def _check_reachable(address: str) -> None:
    """Refuses an address at which nothing listens; Ray itself would knock for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, reason: str) -> StudyError:
    return StudyError(
        f"there is no Ray cluster at {address} ({reason})",
        f"start one with: ray start --head; or use this machine alone: --ray {LOCAL}",
    )
