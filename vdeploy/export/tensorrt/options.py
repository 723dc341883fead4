"""What can be asked of an engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from vdeploy.artifacts.file_headers.tensorrt import LibraryName
from vdeploy.core.errors import ExportError

__all__ = ["EngineOptions", "HardwareCompatibility", "Precision", "parse_batches"]

Precision = Literal["fp32", "fp16", "int8"]
HardwareCompatibility = Literal["none", "ampere+", "same-capability"]

_HIGHEST_LEVEL = 5


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """How to build an engine.

    Attributes:
        precision: The precision that its compute layers must have. The network is built as typed in the ONNX file, so
            this is a demand, not a wish: anything else that is found is an error.
        library: `tensorrt_rtx` builds anywhere, for RTX cards; `tensorrt` builds on a GPU, for that GPU.
        batches: Smallest, usual and largest batch in clips.
        frames: Frames of a clip, T, for inputs whose second axis is free.
        target_sm: Compute capabilities to build for, 89 for 8.9; empty means all from 8.0 on that the library has. With
            `tensorrt` it can only be that of the GPU at hand.
        float_layers: Patterns (`fnmatch`) of names of ONNX nodes that may compute in a higher precision than asked for.
        workspace_bytes: Limit of scratch memory on the GPU; ``None`` leaves it to the library.
        optimization_level: 0 (builds fast) to 5 (runs fast); ``None`` leaves it to the library.
        version_compatible: Let later versions of the same major `tensorrt` run the engine.
        hardware_compatibility: Which other GPUs may run an engine of `tensorrt`.
        timing_cache: Where `tensorrt` keeps what it measured, for faster builds; ``None`` is a file in vdeploy's cache.
    """

    precision: Precision
    library: LibraryName = "tensorrt_rtx"
    batches: tuple[int, int, int] = (1, 16, 64)
    frames: int = 16
    target_sm: tuple[int, ...] = ()
    float_layers: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {get_args(Precision)}, not {self.precision!r}")
        smallest, usual, largest = self.batches
        if not 1 <= smallest <= usual <= largest:
            raise ExportError(
                f"the batches {smallest}, {usual}, {largest} are not in order", "give smallest, usual and largest"
            )
        if self.optimization_level is not None and not 0 <= self.optimization_level <= _HIGHEST_LEVEL:
            raise ExportError(
                f"there is no optimization level {self.optimization_level}", f"choose 0 to {_HIGHEST_LEVEL}"
            )
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise ExportError(f"a workspace of {self.workspace_bytes} bytes is none", "give it more, or leave it out")
        self._refuse_what_the_library_ignores()

    def _refuse_what_the_library_ignores(self) -> None:
        if self.library == "tensorrt":
            return
        if self.version_compatible:
            raise ExportError(
                "an engine of tensorrt-rtx runs on the version that built it only",
                "leave version compatibility out, or export to tensorrt-fp16 or tensorrt-int8",
            )
        if self.hardware_compatibility != "none":
            raise ExportError(
                "an engine of tensorrt-rtx runs on the compute capabilities that it was built for",
                "leave hardware compatibility out and name all of them: --target-sm 86,89,120",
            )


def parse_batches(text: str) -> tuple[int, int, int]:
    """Reads what a user typed after ``--batch``.

    Args:
        text: ``"1,16,64"`` is smallest, usual and largest batch; ``"8"`` is all three.

    Raises:
        ExportError: It is neither.
    """
    parts = text.split(",")
    if len(parts) not in {1, 3} or not all(part.strip().isdecimal() for part in parts):
        raise ExportError(
            f"{text!r} are no batches", "give one number, or smallest, usual and largest: --batch 1,16,64"
        )
    numbers = [int(part) for part in parts]
    return (numbers[0], numbers[len(numbers) // 2], numbers[-1])
