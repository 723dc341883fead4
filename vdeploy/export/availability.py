"""Which formats this machine can make, and why not the others."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

from vdeploy.core.errors import ExportError
from vdeploy.formats import ALL, Format, parse_formats

__all__ = ["Selection", "has_gpu", "obstacle", "select_formats"]

_GPU_DEVICE = Path("/dev/nvidiactl")


@dataclasses.dataclass(frozen=True)
class Selection:
    """What will be made.

    Attributes:
        formats: The formats.
        left_out: Why the others of ``"all"`` are not among them, by name.
    """

    formats: tuple[Format, ...]
    left_out: dict[str, str]


def has_gpu() -> bool:
    """Whether NVIDIA's driver offers a device here."""
    return _GPU_DEVICE.exists()


def obstacle(kind: Format, *, has_data: bool, gpu: Callable[[], bool] = has_gpu) -> str | None:
    """Why a format cannot be made on this machine; ``None`` if it can.

    Args:
        kind: The format.
        has_data: Whether the run's clips are at hand.
        gpu: Tells whether there is a GPU.
    """
    missing = [module for module in kind.modules if not _is_installed(module)]
    if missing:
        return f"needs the Python package {missing[0]}: pip install 'vdeploy[{kind.extra}]'"
    if kind.needs_gpu and not gpu():
        return "needs an NVIDIA GPU: export on the machine that will serve, or choose the tensorrt-rtx-* formats"
    if kind.needs_data and not has_data:
        return "needs the run's training clips to calibrate on: --data DIR"
    return None


def select_formats(text: str, *, has_data: bool) -> Selection:
    """Reads a list of formats; of ``"all"``, those that this machine cannot make are left out.

    Args:
        text: For example ``"all"`` or ``"onnx-fp32,onnx-int8"``.
        has_data: Whether the run's clips are at hand.

    Raises:
        ExportError: A name is unknown, a format that was named cannot be made here, or none can.
    """
    named = {part.strip() for part in text.split(",")} - {ALL}
    formats = parse_formats(text)
    obstacles = {entry.name: why for entry in formats if (why := obstacle(entry, has_data=has_data))}
    for name, why in obstacles.items():
        if name in named:
            raise ExportError(f"{name} cannot be made here: it {why}")
    chosen = tuple(entry for entry in formats if entry.name not in obstacles)
    if not chosen:
        first = next(iter(obstacles))
        raise ExportError(f"this machine can make none of the formats, the first: {first} {obstacles[first]}")
    return Selection(chosen, obstacles)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
