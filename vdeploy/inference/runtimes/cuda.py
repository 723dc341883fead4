"""The little of CUDA that running an engine takes: a device, a stream, memory that is pinned, and graphs of calls."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import DeployError
from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Cuda", "CudaGraph", "DeviceTensor"]


class Cuda:
    """CUDA's runtime on the current device, with a stream of its own; its errors are raised.

    Args:
        extra: The extra of vdeploy that brings cuda-python to the caller.

    Raises:
        MissingExtraError: cuda-python is not installed.
        DeployError: There is no GPU, or its driver is too old for cuda-python.
    """

    def __init__(self, extra: str = "tensorrt") -> None:
        self.api: Any = require("cuda.bindings.runtime", extra=extra, purpose="running an engine on a GPU")
        try:
            devices = self.call("cudaGetDeviceCount")
        except DeployError as error:
            raise DeployError(
                f"this machine has no GPU that can be used ({error.message})", "use a machine with an NVIDIA GPU"
            ) from error
        if not devices:
            raise DeployError("this machine has no GPU that can be used", "use a machine with an NVIDIA GPU")
        self.device = int(self.call("cudaGetDevice"))
        self.stream = self.call("cudaStreamCreate")
        weakref.finalize(self, self.api.cudaStreamDestroy, self.stream)

    @property
    def capability(self) -> int:
        """Compute capability of the device, 86 for 8.6."""
        attributes = self.api.cudaDeviceAttr
        major, minor = (
            self.call("cudaDeviceGetAttribute", attribute, self.device)
            for attribute in (
                attributes.cudaDevAttrComputeCapabilityMajor,
                attributes.cudaDevAttrComputeCapabilityMinor,
            )
        )
        return int(major) * 10 + int(minor)

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls a function of CUDA's runtime.

        Returns:
            What it gives besides the error code: nothing, or one value.

        Raises:
            DeployError: It failed.
        """
        status, *values = getattr(self.api, function)(*arguments)
        if int(status) != 0:
            _, text = self.api.cudaGetErrorString(status)
            reason = text.decode() if isinstance(text, bytes) else str(text)
            raise DeployError(f"CUDA's {function} failed: {reason}", "see nvidia-smi")
        return values[0] if values else None

    def synchronize(self) -> None:
        """Waits for everything on the stream."""
        self.call("cudaStreamSynchronize", self.stream)

    @contextmanager
    def capture(self) -> Iterator[CudaGraph]:
        """Records what the block puts on the stream instead of doing it.

        Yields:
            A graph that can be launched once the block has ended.
        """
        graph = CudaGraph(self)
        self.call(
            "cudaStreamBeginCapture", self.stream, self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            yield graph
        finally:
            recorded = self.call("cudaStreamEndCapture", self.stream)
        graph.instantiate(recorded)


class CudaGraph:
    """Calls that are launched as one.

    Args:
        cuda: Where they run.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._executable: Any = None

    def instantiate(self, recorded: Any) -> None:
        """Makes what was recorded ready to be launched."""
        try:
            self._executable = self._cuda.call("cudaGraphInstantiate", recorded, 0)
        finally:
            self._cuda.call("cudaGraphDestroy", recorded)
        weakref.finalize(self, self._cuda.api.cudaGraphExecDestroy, self._executable)

    def launch(self) -> None:
        """Puts the calls on the stream."""
        self._cuda.call("cudaGraphLaunch", self._executable, self._cuda.stream)


class DeviceTensor:
    """An array in pinned memory of the host and its twin on the device.

    Args:
        cuda: Where the twin is.
        shape: Its shape.
        dtype: Its type.

    Attributes:
        host: The array.
        address: Address of the twin.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda = cuda
        self._bytes = max(math.prod(shape) * dtype.itemsize, 1)
        pinned = self._owned("cudaMallocHost", cuda.api.cudaFreeHost)
        self.address = self._owned("cudaMalloc", cuda.api.cudaFree)
        memory = memoryview((ctypes.c_uint8 * self._bytes).from_address(pinned)).cast("B")
        self.host: npt.NDArray[Any] = np.ndarray(shape, dtype, buffer=memory)

    def upload(self) -> None:
        """Copies the array to its twin, in the order of the stream."""
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        host = self.host.ctypes.data
        self._cuda.call("cudaMemcpyAsync", self.address, host, self._bytes, kind, self._cuda.stream)

    def download(self) -> None:
        """Copies the twin to the array, in the order of the stream."""
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        host = self.host.ctypes.data
        self._cuda.call("cudaMemcpyAsync", host, self.address, self._bytes, kind, self._cuda.stream)

    def _owned(self, function: str, free: Callable[[int], Any]) -> int:
        address = int(self._cuda.call(function, self._bytes))
        weakref.finalize(self, free, address)
        return address
