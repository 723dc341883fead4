"""Shared memory of a client and a Triton server on the same machine.

A region is a file in ``/dev/shm`` that both map. The file is removed as soon as the server has mapped it, so that none
remains however this process ends. The server keeps the memory until it is unregistered; regions of clients that have
died are unregistered by the next client.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from vdeploy.core.errors import ClientError
from vdeploy.triton.server.process_group import is_stale_region, new_region_prefix, remove_stale_regions
from vdeploy.triton.server.reaper import SHARED_MEMORY

__all__ = ["ClientRegion", "release_dead_regions"]

_TIMEOUT_SECONDS = 10.0


class ClientRegion:
    """A region that a server has mapped; a context manager.

    Args:
        client: The connection to the server.
        url: Address of the server, for errors.
        size: Size in bytes.

    Attributes:
        name: Name on the server, which contains the process of the owner.

    Raises:
        ClientError: There is not enough shared memory, or the server does not accept it.
    """

    def __init__(self, client: triton.InferenceServerClient, url: str, size: int) -> None:
        self._client = client
        self.name = f"{new_region_prefix()}client"
        file = SHARED_MEMORY / self.name
        try:
            self._map = _reserve(str(file), size)
            client.register_system_shared_memory(self.name, f"/{self.name}", size, client_timeout=_TIMEOUT_SECONDS)
        except OSError as error:
            raise ClientError(
                f"{size / 1e6:.0f} MB of shared memory cannot be allocated in {SHARED_MEMORY} ({error.strerror})",
                "make it larger; for a container: --shm-size",
            ) from error
        except triton.InferenceServerException as error:
            raise ClientError(
                f"{url} takes no shared memory of clients ({_one_line(error)})",
                "measure on the server's machine, and allow it there: vdeploy serve --shared-memory, or "
                "--allow-client-shm=true for a newer tritonserver",
            ) from error
        finally:
            file.unlink(missing_ok=True)

    def __enter__(self) -> ClientRegion:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(triton.InferenceServerException):
            self._client.unregister_system_shared_memory(self.name, client_timeout=_TIMEOUT_SECONDS)

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike, offset: int = 0) -> npt.NDArray[Any]:
        """Returns a view of the memory.

        Args:
            shape: Shape of the view.
            dtype: Its element type.
            offset: Its first byte.
        """
        view: npt.NDArray[Any] = np.ndarray(shape, dtype, self._map, offset)
        return view


def release_dead_regions(url: str) -> None:
    """Removes regions of dead processes and unregisters them from a server; a server that refuses is left alone.

    Args:
        url: ``HOST:PORT`` of the server.
    """
    remove_stale_regions()
    with contextlib.suppress(triton.InferenceServerException), triton.InferenceServerClient(url) as client:
        for name in client.get_system_shared_memory_status(client_timeout=_TIMEOUT_SECONDS).regions:
            if is_stale_region(name):
                client.unregister_system_shared_memory(name, client_timeout=_TIMEOUT_SECONDS)


def _reserve(path: str, size: int) -> mmap.mmap:
    """Reserves memory: a write to shared memory that is not reserved would kill the process."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def _one_line(error: Any) -> str:
    return " ".join(str(error.message() or error).split())
