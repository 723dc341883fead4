"""The table of formats. Command-line help, documentation, exporters, parity and benchmarks all read it."""

from __future__ import annotations

import dataclasses
import difflib

from vdeploy.bundle import Stage
from vdeploy.errors import ExportError

__all__ = ["FORMATS", "Format", "parse_formats"]


@dataclasses.dataclass(frozen=True)
class Format:
    """One way to write a stage to disk.

    Attributes:
        name: What the user types.
        stages: Stages that can be written so.
        precision: Precision of the weights.
        file: File name inside ``STAGE/NAME/``.
        runtime: Module of `vdeploy.runtimes` that runs it.
        extra: The extra that installs the exporter.
        tolerance: Largest difference from the reference, relative to its largest value, that counts as equal.
        reason: Why the tolerance is what it is.
    """

    name: str
    stages: tuple[Stage, ...]
    precision: str
    file: str
    runtime: str
    extra: str
    tolerance: float
    reason: str


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format(
            name="onnx-fp32",
            stages=("extractor", "classifier"),
            precision="fp32",
            file="model.onnx",
            runtime="onnxruntime",
            extra="export",
            tolerance=1e-4,
            reason="the same float32 arithmetic in another order, over up to 19 layers",
        ),
    )
}


def parse_formats(text: str) -> list[Format]:
    """Reads a comma-separated list of format names.

    Args:
        text: For example ``"onnx-fp32"``.

    Returns:
        The formats, without repetition, in the order given.

    Raises:
        ExportError: A name is unknown.
    """
    chosen: dict[str, Format] = {}
    for name in (part.strip() for part in text.split(",")):
        if name not in FORMATS:
            close = difflib.get_close_matches(name, FORMATS, n=1)
            guess = f", did you mean {close[0]}?" if close else ""
            raise ExportError(f"there is no format {name!r}{guess}", f"known: {', '.join(FORMATS)}")
        chosen[name] = FORMATS[name]
    return list(chosen.values())
