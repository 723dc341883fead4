"""The table of formats. Command-line help, documentation, exporters, parity and benchmarks all read it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

from vdeploy.artifacts.bundle.manifest import Measure, Stage
from vdeploy.core.errors import ExportError

__all__ = [
    "ALL",
    "FORMATS",
    "MAX_ACCURACY_LOSS",
    "MAX_TURN",
    "MIN_AGREEMENT",
    "OPTIONS",
    "Format",
    "parse_formats",
    "refuse_ignored_options",
]

ALL = "all"
"""What a user types for every format that this machine can make."""

OPTIONS = {
    "batch": "--batch",
    "target_sm": "--target-sm",
    "calibration_clips": "--calibration-clips",
}
"""Options that only some formats take, and what the user types for them."""

MIN_AGREEMENT = 0.99
"""Share of held-out clips that must get the reference's verdict, in every format."""

MAX_ACCURACY_LOSS = 0.005
"""Share of held-out clips by which the accuracy may fall behind the reference's, in every format."""

MAX_TURN = 0.02
"""One minus the least cosine between a row of an INT8 stage's outputs and the reference's."""

_BOTH: tuple[Stage, ...] = ("extractor", "classifier")


@dataclasses.dataclass(frozen=True)
class Format:
    """One way to write a stage to disk.

    Attributes:
        name: What the user types.
        stages: Stages that can be written so; ``"stream"`` of causal backbones alone.
        precision: Precision that the extractor must have.
        file: Name of the file or folder inside ``STAGE/NAME/``.
        writer: Module of `vdeploy.export.writers` that writes it.
        runtime: Module of `vdeploy.inference.runtimes` that runs it.
        extra: The extra that installs what writes and proves it, or several, separated by commas.
        modules: Python modules that it brings and that writing it needs; the last one runs it.
        measure: What the tolerance limits. ``"values"``: the largest difference from the reference over its largest
            value. ``"direction"``: one minus the cosine to the reference, in the worst row.
        tolerance: The limit.
        reason: Why it is what it is.
        classifier_precisions: What the classifier may be beside ``precision``.
        fixed_time: Whether a clip has T frames even in the extractor, so that no other length can be tried.
        options: Options of `OPTIONS` that it takes.
        needs_data: Whether it is calibrated on training clips.
        needs_gpu: Whether it can only be written where there is a GPU.
    """

    name: str
    stages: tuple[Stage, ...]
    precision: str
    file: str
    writer: str
    runtime: str
    extra: str
    modules: tuple[str, ...]
    tolerance: float
    reason: str
    measure: Measure = "values"
    classifier_precisions: tuple[str, ...] = ()
    fixed_time: bool = False
    options: frozenset[str] = frozenset()
    needs_data: bool = False
    needs_gpu: bool = False

    def accepts(self, stage: Stage, precision: str) -> bool:
        """Whether a precision that was found in a file is one that this format promises.

        ``"mixed"`` counts if it names the promised precision: a writer has refused layers that stayed behind unasked.
        """
        mixed = precision.startswith("mixed: ") and f"{self.precision} " in precision
        return (
            mixed or precision == self.precision or (stage == "classifier" and precision in self.classifier_precisions)
        )


_HALF = "half precision keeps 11 binary digits, and what is lost adds up over 19 layers"
_EIGHT_BITS = "256 steps an activation shift every value a little; the direction of the features is what classifies"
_ENGINE = frozenset({"batch"})

_ONNX = Format(
    name="onnx-fp32",
    stages=_BOTH,
    precision="fp32",
    file="model.onnx",
    writer="onnx",
    runtime="onnxruntime",
    extra="export",
    modules=("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
    tolerance=1e-4,
    reason="the same float32 arithmetic in another order, over up to 19 layers",
)
_TFLITE = dataclasses.replace(
    _ONNX,
    name="tflite-fp32",
    file="model.tflite",
    writer="tflite",
    runtime="litert",
    extra="tflite",
    modules=("tensorflow", "ai_edge_litert"),
)
_OPENVINO = dataclasses.replace(
    _ONNX,
    name="openvino-fp32",
    file="model",
    writer="openvino",
    runtime="openvino",
    extra="export,openvino",
    modules=(*_ONNX.modules, "openvino"),
)
_TENSORRT = dataclasses.replace(
    _ONNX,
    name="tensorrt-fp16",
    precision="fp16",
    file="model.engine",
    writer="tensorrt",
    runtime="tensorrt",
    extra="tensorrt",
    modules=("tensorflow", "tf2onnx", "onnx", "onnxruntime", "tensorrt"),
    tolerance=5e-3,
    reason=_HALF,
    fixed_time=True,
    options=_ENGINE,
    needs_gpu=True,
)
_RTX = dataclasses.replace(
    _TENSORRT,
    name="tensorrt-rtx-fp16",
    extra="tensorrt-rtx",
    modules=("tensorflow", "tf2onnx", "onnx", "onnxruntime", "tensorrt_rtx"),
    options=_ENGINE | {"target_sm"},
    needs_gpu=False,
)


def _eight_bits(base: Format, name: str) -> Format:
    return dataclasses.replace(
        base,
        name=name,
        precision="int8",
        measure="direction",
        tolerance=MAX_TURN,
        reason=_EIGHT_BITS,
        classifier_precisions=("fp16",) if base.writer == "tensorrt" else (),
        options=base.options | {"calibration_clips"},
        needs_data=True,
    )


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        dataclasses.replace(_ONNX, stages=(*_BOTH, "stream")),
        dataclasses.replace(_ONNX, name="onnx-fp16", precision="fp16", tolerance=5e-3, reason=_HALF),
        _eight_bits(_ONNX, "onnx-int8"),
        dataclasses.replace(
            _ONNX,
            name="savedmodel",
            stages=(*_BOTH, "pipeline"),
            file="model",
            writer="savedmodel",
            runtime="tensorflow",
            extra="train",
            modules=("tensorflow",),
        ),
        _TFLITE,
        _eight_bits(_TFLITE, "tflite-int8"),
        _OPENVINO,
        _eight_bits(_OPENVINO, "openvino-int8"),
        _TENSORRT,
        _eight_bits(_TENSORRT, "tensorrt-int8"),
        _RTX,
        _eight_bits(_RTX, "tensorrt-rtx-int8"),
    )
}


def parse_formats(text: str) -> list[Format]:
    """Reads a comma-separated list of format names.

    Args:
        text: For example ``"onnx-fp32,onnx-int8"``; ``"all"`` stands for every format of the table.

    Returns:
        The formats, without repetition, in the order given.

    Raises:
        ExportError: A name is unknown.
    """
    chosen: dict[str, Format] = {}
    for name in (part.strip() for part in text.split(",")):
        if name == ALL:
            chosen |= {entry.name: entry for entry in FORMATS.values() if entry.name not in chosen}
            continue
        if name not in FORMATS:
            begun = [known for known in FORMATS if name and known.startswith(name)]
            close = begun or difflib.get_close_matches(name, (*FORMATS, ALL), n=1)
            guess = f", did you mean {close[0]}?" if close else ""
            raise ExportError(f"there is no format {name!r}{guess}", f"known: {', '.join((*FORMATS, ALL))}")
        chosen[name] = FORMATS[name]
    return list(chosen.values())


def refuse_ignored_options(formats: Iterable[Format], given: Iterable[str]) -> None:
    """Refuses options that none of the chosen formats takes, so that nobody relies on one without effect.

    Args:
        formats: The chosen formats, at least one.
        given: Names, as in `OPTIONS`, of what the user has set.

    Raises:
        ExportError: One is ignored; the message says which formats take it.
    """
    chosen = list(formats)
    for option in given:
        if any(option in entry.options for entry in chosen):
            continue
        names = ", ".join(entry.name for entry in chosen)
        takers = [entry.name for entry in FORMATS.values() if option in entry.options]
        alike = next((name for name in takers if FORMATS[name].precision == chosen[0].precision), takers[0])
        raise ExportError(
            f"{names} ignores {OPTIONS[option]}, did you mean --format {alike}?", f"it is for {', '.join(takers)}"
        )
