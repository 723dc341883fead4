"""What the exporter asks of a writer, and what a writer tells the exporter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vdeploy.artifacts.bundle.manifest import Calibration, Stage
from vdeploy.export.options import ExportOptions
from vdeploy.formats import Format

if TYPE_CHECKING:
    from vdeploy.export.intermediates import Intermediates
    from vdeploy.export.reference_data import ReferenceData
    from vdeploy.export.verification.reference import Reference

__all__ = ["Job", "Writer", "Written"]


@dataclasses.dataclass(frozen=True)
class Job:
    """One stage to write in one format.

    Attributes:
        stage: The stage.
        kind: The format.
        path: The file or folder to write; its parent exists.
        data: The run in Keras, and inputs to calibrate on.
        intermediates: ONNX files that other formats are made from.
        options: The user's choices.
    """

    stage: Stage
    kind: Format
    path: Path
    data: ReferenceData
    intermediates: Intermediates
    options: ExportOptions

    @property
    def reference(self) -> Reference:
        """The run in Keras, in float32."""
        return self.data.reference


@dataclasses.dataclass(frozen=True)
class Written:
    """What a writer found in what it wrote.

    Attributes:
        precision: Precision found in the file, ``"fp32"``, ``"fp16"`` or ``"int8"``, or why it is none of these.
        packages: Distributions whose versions belong into the manifest.
        details: What its format alone has to tell, JSON-ready.
        stand_in: The ONNX file that it was built from, where it cannot be run on this machine.
        calibration: The clips that it was calibrated on.
    """

    precision: str
    packages: tuple[str, ...]
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stand_in: Path | None = None
    calibration: Calibration | None = None


class Writer(Protocol):
    """Writes one stage; a module of `vdeploy.export.writers` has one, named ``write``."""

    def __call__(self, job: Job) -> Written:
        """Writes ``job.path``.

        Raises:
            ExportError: It cannot be written, or is not what the format promises.
            MissingExtraError: What writes it is not installed.
        """
