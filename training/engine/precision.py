"""Which number type the large matrix product runs in, and whether XLA compiles the step: by recipe or by device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from training.recipe_sections import TrainingSection
from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["COMPUTE_TYPES", "Precision", "candidates", "choose_precision", "type_of_convolutions"]

COMPUTE_TYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
"""Precision as the recipe names it -> type of the features and of their product with the LSTM's kernel."""

_CPUINFO = Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True)
class Precision:
    """How a step computes. Weights, optimizer, recurrence and loss are float32 in every case.

    Attributes:
        name: ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``.
        xla: Whether XLA compiles forward and backward pass.
    """

    name: str
    xla: bool

    @property
    def dtype(self) -> str:
        """The compute type."""
        return COMPUTE_TYPES[self.name]

    @property
    def scaled(self) -> bool:
        """Whether the loss has to be scaled lest small gradients vanish: float16 alone has so few exponents."""
        return self.dtype == "float16"

    def __str__(self) -> str:
        return f"{self.name}{' with XLA' if self.xla else ''}"


def choose_precision(section: TrainingSection) -> Precision:
    """Fills in what the recipe leaves open.

    A GPU gets XLA, and bfloat16 from compute capability 8.0 on, float16 from 7.0 on. A CPU gets no XLA, and bfloat16 if
    it has instructions for it. `training.engine.step_benchmark` times the candidates on a machine.

    Args:
        section: The recipe's choices.
    """
    tf: Any = load_tensorflow()
    gpus = _gpus(section)
    name: str = section.precision
    if name == "auto":
        name = _for_gpu(tf, gpus[0]) if gpus else _for_cpu()
    return Precision(name, bool(gpus) if section.xla == "auto" else section.xla)


def type_of_convolutions(dtype: str, section: TrainingSection) -> str:
    """The type in which convolutions are trained: the compute type on a GPU, float32 on a CPU.

    oneDNN's bfloat16 gradient of a filter holds memory that nobody has written wherever a 3-D convolution sees two time
    steps (I3D with 16 frames), and some 2-D ones on a single position; TensorFlow 2.21 computes with it. Other sizes
    agree with float32, but the library gives no rule for which.

    Args:
        dtype: The compute type.
        section: The recipe's choices.
    """
    return dtype if _gpus(section) else "float32"


def candidates() -> list[Precision]:
    """All combinations that are worth timing."""
    return [Precision(name, xla) for xla in (False, True) for name in COMPUTE_TYPES]


def _gpus(section: TrainingSection) -> list[Any]:
    if section.devices != "auto" and all(device.lower().startswith("cpu") for device in section.devices):
        return []
    found: list[Any] = load_tensorflow().config.list_physical_devices("GPU")
    return found


def _for_gpu(tf: Any, gpu: Any) -> str:
    major, _ = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
    return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"


def _for_cpu() -> str:
    try:
        flags = _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return "float32"
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"
