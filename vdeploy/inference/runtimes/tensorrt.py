"""TensorRT engines on an NVIDIA GPU, of either library.

An engine runs on the version of the library that built it and on the compute capabilities that it was built for.
Whether that is so here is found out from the first bytes of the file, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.file_headers.tensorrt import HEAD_BYTES, Plan, capability_text, read_plan
from vdeploy.core.errors import BundleError
from vdeploy.inference.runtimes.cuda import Cuda
from vdeploy.inference.runtimes.tensorrt_context import EngineContext, EngineTensor
from vdeploy.inference.runtimes.tensorrt_library import Library, load_library, message_logger

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["TensorRTRuntime", "refuse_other_gpu", "refuse_other_version"]

_REMEDY = "export again where it is to run, inside the serving image on the machine with the GPU"

_OBSTACLES = {
    "VERSION_MISMATCH": "it was built by another version of the library",
    "UNSUPPORTED_CC": "it was built for another compute capability",
    "OLD_CUDA_DRIVER": "the GPU's driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is damaged",
    "CUDA_ERROR": "CUDA failed",
}


class TensorRTRuntime:
    """An engine on the current GPU, opened by the library that built it.

    Larger batches than the engine takes are run in parts.

    Args:
        path: The engine.
        threads: Not used: the GPU does the work.

    Raises:
        MissingExtraError: The library or cuda-python is not installed.
        DeployError: There is no GPU.
        BundleError: The file is no engine, damaged, of another version of the library or for another GPU.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:  # noqa: ARG002  every runtime takes it
        self._path = path
        plan = read_plan(path)
        library = load_library(plan.library)
        refuse_other_version(plan, library, path)
        cuda = Cuda(extra=library.extra)
        refuse_other_gpu(plan, cuda.capability, path)
        self._context = _open(path, library, cuda)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the engine; see `vdeploy.inference.runtimes.base.Runtime`."""
        self._refuse_misfits(inputs)
        parts = {
            name: np.array_split(array, _parts(array.shape[0], self._context.inputs[name]))
            for name, array in inputs.items()
        }
        results = [
            self._context.run(dict(zip(parts, arrays, strict=True))) for arrays in zip(*parts.values(), strict=True)
        ]
        return {name: np.concatenate([result[name] for result in results]) for name in self._context.outputs}

    def _refuse_misfits(self, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        wanted = self._context.inputs
        if set(inputs) != set(wanted):
            raise self._misfit(f"takes {', '.join(sorted(wanted))}, not {', '.join(sorted(inputs)) or 'nothing'}")
        for name, array in inputs.items():
            tensor = wanted[name]
            if array.dtype != tensor.dtype:
                raise self._misfit(f"takes {name} as {tensor.dtype}, not {array.dtype}")
            if not _fits(array.shape, tensor):
                shapes = f"from {list(tensor.smallest)} to {list(tensor.largest)}"
                raise self._misfit(f"takes {name} of shapes {shapes}, not {list(array.shape)}")

    def _misfit(self, what: str) -> BundleError:
        return BundleError(f"{self._path} {what}", "give it what the manifest says, or export with other batches")


def refuse_other_version(plan: Plan, library: Library, path: Path) -> None:
    """Refuses an engine that another version of the library built.

    Raises:
        BundleError: It is such an engine.
    """
    here = tuple(int(part) for part in library.version.split(".") if part.isdecimal())
    if plan.version[: len(here)] != here[: len(plan.version)]:
        raise BundleError(
            f"{path} was built by {library.name} {plan.version_text} and runs on no other version; "
            f"here is {library.version}",
            _REMEDY,
        )


def refuse_other_gpu(plan: Plan, capability: int, path: Path) -> None:
    """Refuses an engine that was built for other GPUs, where the file says for which.

    Args:
        plan: The engine.
        capability: Compute capability of the GPU, 86 for 8.6.
        path: Its file, for the error.

    Raises:
        BundleError: It is such an engine.
    """
    if plan.capabilities and capability not in plan.capabilities:
        raise BundleError(
            f"{path} was built for compute capability {capability_text(*plan.capabilities)}; the GPU here has "
            f"{capability_text(capability)}",
            _REMEDY,
        )


def _open(path: Path, library: Library, cuda: Cuda) -> EngineContext:
    trt = library.module
    logger, log = message_logger(library)
    runtime = trt.Runtime(logger)
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise BundleError(f"the engine {path} cannot be read ({error.strerror or error})", _REMEDY) from error
    obstacles = _obstacles(trt, runtime, blob[:HEAD_BYTES])
    if obstacles:
        raise BundleError(f"{path} cannot run here: {'; '.join(obstacles)}", _REMEDY)
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        raise BundleError(f"TensorRT cannot open {path} ({log.first_error})", _REMEDY)
    return EngineContext(trt, engine, cuda)


def _obstacles(trt: Any, runtime: Any, head: bytes) -> list[str]:
    """Why the library says that an engine cannot run here; nothing where it has no say."""
    if not hasattr(runtime, "get_engine_validity"):
        return []
    validity, diagnostics = runtime.get_engine_validity(head)
    if validity != trt.EngineValidity.INVALID:
        return []
    flags = trt.EngineInvalidityDiagnostics.__members__
    found = [text for name, text in _OBSTACLES.items() if name in flags and int(diagnostics) & int(flags[name])]
    return found or ["the library does not say why"]


def _fits(shape: tuple[int, ...], tensor: EngineTensor) -> bool:
    """Whether an array of a shape can be run, in parts where its batch is larger than the engine's."""
    if len(shape) != len(tensor.smallest) or shape[0] < 1:
        return False
    if shape[0] // _parts(shape[0], tensor) < tensor.smallest[0]:
        return False
    pairs = zip(shape[1:], tensor.smallest[1:], tensor.largest[1:], strict=True)
    return all(low <= length <= high for length, low, high in pairs)


def _parts(batch: int, tensor: EngineTensor) -> int:
    """Into how many parts of nearly the same size a batch goes."""
    return -(-batch // tensor.largest[0])
