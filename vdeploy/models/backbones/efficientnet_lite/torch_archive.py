"""PyTorch's serialization format before 1.6, read without PyTorch and without running what a pickle names."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vdeploy.core.errors import WeightsError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["read_state_dict"]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    """A flat array that tensors are views of."""

    key: str
    dtype: np.dtype[Any]
    elements: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Reads a module's state as ``torch.save(module.state_dict())`` wrote it before PyTorch 1.6.

    The file holds five pickles (a magic number, the protocol, the byte order, the tensors, and the storages' keys in
    order), then the contents of each storage: its length in elements as int64, and its elements.

    Args:
        path: The file.

    Returns:
        The arrays by name.

    Raises:
        WeightsError: The file is not of this format, is cut short, or holds other things than tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise WeightsError(f"the weights {path} cannot be read ({error.strerror or error})") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise WeightsError(
            f"{path} is no state of a PyTorch module in the format before 1.6 ({error})",
            "give 'imagenet', or the path of a published .pth file",
        ) from error


class _TensorUnpickler(pickle.Unpickler):
    """Reads views of storages, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _rebuild_tensor
            case "torch", _ if name in _STORAGES:
                return _STORAGES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("a storage is a view of another")
        return _Storage(key, dtype, count)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_gradients: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _read(file: IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    if _TensorUnpickler(file).load() != _MAGIC or _TensorUnpickler(file).load() != _PROTOCOL:
        raise ValueError("another magic number")
    if not _TensorUnpickler(file).load()["little_endian"]:
        raise ValueError("big-endian")
    tensors: Mapping[str, _Tensor] = _TensorUnpickler(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    contents = {key: _contents(file, storages[key]) for key in _TensorUnpickler(file).load()}
    return {name: _view(contents[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _contents(file: IO[bytes], storage: _Storage) -> bytes:
    count = int.from_bytes(file.read(8), "little")
    contents = file.read(count * storage.dtype.itemsize) if count == storage.elements else b""
    if len(contents) != storage.elements * storage.dtype.itemsize:
        raise ValueError("a storage is cut short")
    return contents


def _view(contents: bytes, tensor: _Tensor) -> npt.NDArray[Any]:
    dtype = tensor.storage.dtype
    size = dtype.itemsize
    strides = [size * stride for stride in tensor.strides]
    array: npt.NDArray[Any] = np.ndarray(tensor.shape, dtype, contents, size * tensor.offset, strides).copy()
    return array
