"""An opened engine at work: its tensors, its memory, and a graph of its calls where shapes repeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import BundleError, DeployError
from vdeploy.inference.runtimes.cuda import Cuda, CudaGraph, DeviceTensor

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["EngineContext", "EngineTensor"]

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}
_KEPT_SHAPES = 4
"""Memory is kept for so many shapes: full batches, the rest of the last one, and single clips."""

_Key = tuple[tuple[str, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine.

    Attributes:
        name: Its name.
        dtype: Its type.
        smallest: The smallest shape that it may have; for an output, ``-1`` where it depends on the inputs.
        largest: The largest.
    """

    name: str
    dtype: np.dtype[Any]
    smallest: tuple[int, ...]
    largest: tuple[int, ...]


class EngineContext:
    """An engine that can be run, one call at a time.

    The first call at a shape runs as it is, which lets TensorRT set itself up. From the second call in a row on, copies
    and kernels are launched as one CUDA graph; `tensorrt_rtx` makes such graphs itself.

    Args:
        trt: The library.
        engine: Its `ICudaEngine`.
        cuda: The device that the engine is on.

    Attributes:
        inputs: The engine's inputs by name.
        outputs: Its outputs by name.
    """

    def __init__(self, trt: Any, engine: Any, cuda: Cuda) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        taken = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self.inputs = {name: _tensor(engine, name, is_input=True) for name in names if name in taken}
        self.outputs = {name: _tensor(engine, name, is_input=False) for name in names if name not in taken}
        self._engine, self._cuda = engine, cuda
        self._captures = not hasattr(trt, "CudaGraphStrategy")
        self._context = _execution_context(trt, engine)
        self._memory: dict[_Key, dict[str, DeviceTensor]] = {}
        self._bound: _Key = ()
        self._graph: CudaGraph | None = None

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Runs the engine.

        Args:
            inputs: Arrays of the right types, in shapes that the engine takes.

        Returns:
            Arrays by output name.

        Raises:
            DeployError: CUDA failed.
            BundleError: TensorRT did.
        """
        key = tuple((name, array.shape) for name, array in sorted(inputs.items()))
        repeats = key == self._bound
        if not repeats:
            self._bind(key)
        tensors = self._memory[key]
        for name, array in inputs.items():
            np.copyto(tensors[name].host, array)
        if repeats and self._captures:
            self._launch(tensors)
        else:
            self._enqueue(tensors)
        self._cuda.synchronize()
        return {name: tensors[name].host.copy() for name in self.outputs}

    def _bind(self, key: _Key) -> None:
        self._graph, self._bound = None, ()
        for name, shape in key:
            if not self._context.set_input_shape(name, shape):
                raise BundleError(f"TensorRT refuses {name} of shape {list(shape)}", "see the engine's profile")
        tensors = self._memory.pop(key, None) or self._allocate(dict(key))
        for name, tensor in tensors.items():
            self._context.set_tensor_address(name, tensor.address)
        self._memory[key] = tensors
        while len(self._memory) > _KEPT_SHAPES:
            del self._memory[next(iter(self._memory))]
        self._bound = key

    def _allocate(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, DeviceTensor]:
        tensors = {name: DeviceTensor(self._cuda, shape, self.inputs[name].dtype) for name, shape in shapes.items()}
        for name, tensor in self.outputs.items():
            tensors[name] = DeviceTensor(self._cuda, tuple(self._context.get_tensor_shape(name)), tensor.dtype)
        return tensors

    def _launch(self, tensors: Mapping[str, DeviceTensor]) -> None:
        if self._graph is None:
            try:
                with self._cuda.capture() as graph:
                    self._enqueue(tensors)
            except DeployError:
                self._captures = False
                self._enqueue(tensors)
                return
            self._graph = graph
        self._graph.launch()

    def _enqueue(self, tensors: Mapping[str, DeviceTensor]) -> None:
        for name in self.inputs:
            tensors[name].upload()
        if not self._context.execute_async_v3(int(self._cuda.stream)):
            raise BundleError("TensorRT could not run the engine", "see nvidia-smi, or build the engine again")
        for name in self.outputs:
            tensors[name].download()


def _tensor(engine: Any, name: str, *, is_input: bool) -> EngineTensor:
    kind = engine.get_tensor_dtype(name).name
    if kind not in _DTYPES:
        raise BundleError(f"the engine's {name} has the type {kind}, which numpy lacks", "build the engine again")
    if is_input:
        smallest, _, largest = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, 0))
    else:
        smallest = largest = tuple(engine.get_tensor_shape(name))
    return EngineTensor(name, np.dtype(_DTYPES[kind]), smallest, largest)


def _execution_context(trt: Any, engine: Any) -> Any:
    if hasattr(trt, "CudaGraphStrategy"):
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context = engine.create_execution_context(config)
    else:
        context = engine.create_execution_context()
    if context is None:
        raise BundleError("TensorRT cannot run the engine: too little memory on the GPU", "free some, see nvidia-smi")
    return context
