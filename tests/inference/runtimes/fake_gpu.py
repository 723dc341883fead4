"""A GPU and a TensorRT engine of ordinary memory, to test what happens around them; see `FakeCuda` and `FakeTrt`."""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace

import numpy as np

__all__ = ["FakeCuda", "FakeTrt"]


class FakeCuda:
    """`cuda.bindings.runtime` on the host: streams run at once, unless they are captured.

    Attributes:
        capability: Compute capability of the one device.
        failing: Names of functions that fail.
        launches: Graphs that were launched.
        blocks: Memory that is held, by address.
    """

    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)

    def __init__(self, capability: int = 89, devices: int = 1) -> None:
        self.capability, self.devices = capability, devices
        self.failing: set[str] = set()
        self.launches = self.captures = 0
        self.blocks: dict[int, object] = {}
        self._recorded: list | None = None

    def __getattribute__(self, name: str):
        if name.startswith("cuda") and name != "cudaGetErrorString" and name in super().__getattribute__("failing"):
            return lambda *_: (35, None)
        return super().__getattribute__(name)

    def submit(self, work) -> None:
        if self._recorded is None:
            work()
        else:
            self._recorded.append(work)

    def cudaGetErrorString(self, *_):
        return 0, b"driver is insufficient"

    def cudaGetDeviceCount(self):
        return 0, self.devices

    def cudaGetDevice(self):
        return 0, 0

    def cudaDeviceGetAttribute(self, attribute, *_):
        return 0, divmod(self.capability, 10)[attribute]

    def cudaStreamCreate(self):
        return 0, 7

    def cudaStreamDestroy(self, *_):
        return (0,)

    def cudaStreamSynchronize(self, *_):
        assert self._recorded is None
        return (0,)

    def cudaMalloc(self, size):
        block = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(block)
        self.blocks[address] = block
        return 0, address

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address):
        del self.blocks[address]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, target, source, size, *_):
        self.submit(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def cudaStreamBeginCapture(self, *_):
        self._recorded = []
        return (0,)

    def cudaStreamEndCapture(self, *_):
        recorded, self._recorded = self._recorded, None
        self.captures += 1
        return 0, recorded

    def cudaGraphInstantiate(self, graph, *_):
        return 0, graph

    def cudaGraphDestroy(self, *_):
        return (0,)

    def cudaGraphExecDestroy(self, *_):
        return (0,)

    def cudaGraphLaunch(self, executable, *_):
        self.launches += 1
        for work in executable:
            work()
        return (0,)


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class FakeTrt:
    """A TensorRT whose engines add up each clip's bytes: ``frames uint8[B, 2, 3]`` -> ``features float32[B, 1]``.

    Args:
        cuda: The device.
        native_graphs: Make CUDA graphs itself, as `tensorrt_rtx` does.
        opens: Whether engines can be opened.
        runs: Whether they can be run.
    """

    TensorIOMode = TensorIOMode

    def __init__(self, cuda: FakeCuda, *, native_graphs: bool = False, opens: bool = True, runs: bool = True) -> None:
        self.cuda, self.opens, self.runs = cuda, opens, runs
        self.strategy = self.shape = None
        if native_graphs:
            self.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")

    def Runtime(self, *_):
        return self

    def deserialize_cuda_engine(self, *_):
        return self if self.opens else None

    num_io_tensors = 2

    def get_tensor_name(self, index):
        return ("frames", "features")[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == "frames" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="UINT8" if name == "frames" else "FLOAT")

    def get_tensor_profile_shape(self, *_):
        return [(2, 2, 3), (4, 2, 3), (8, 2, 3)]

    def create_runtime_config(self):
        return SimpleNamespace()

    def create_execution_context(self, config=None):
        self.strategy = getattr(config, "cuda_graph_strategy", None)
        self.addresses = {}
        return self

    def set_input_shape(self, name, shape):
        assert name == "frames"
        self.shape = shape
        return 2 <= shape[0] <= 8

    def get_tensor_shape(self, *_):
        return (-1, 1) if self.shape is None else (self.shape[0], 1)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == 7
        (batch, *rest), addresses = self.shape, dict(self.addresses)

        def work():
            frames = (ctypes.c_uint8 * (batch * int(np.prod(rest)))).from_address(addresses["frames"])
            features = (ctypes.c_float * batch).from_address(addresses["features"])
            np.frombuffer(features, np.float32)[:] = np.frombuffer(frames, np.uint8).reshape(batch, -1).sum(axis=1)

        self.cuda.submit(work)
        return self.runs
