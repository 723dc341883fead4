"""What the exporter asks of a writer, and what a writer tells the exporter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vdeploy.artifacts.bundle.manifest import Calibration, Stage
from vdeploy.core.files import cache_dir
from vdeploy.formats import Format

if TYPE_CHECKING:
    from vdeploy.export.intermediates import Sources
    from vdeploy.export.verification.reference import Reference

__all__ = ["ExportOptions", "Job", "Writer", "Written"]


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What a user may choose beside the formats; see ``vdeploy export --help``.

    Attributes:
        data: Where the run's clips lie now; ``None`` for where they lay when it was trained.
        store_root: Folder of all feature stores.
        clips: Held-out clips to judge every format on; ``None`` for all of them for INT8, and few for the others.
        batch: Smallest, usual and largest batch of an engine; ``None`` for the writer's choice.
        target_sm: Compute capabilities that an engine is for, 89 for 8.9; ``None`` for the writer's choice.
        calibration_clips: Training clips to calibrate on; ``None`` for the calibration's choice.
        keep: Whether formats that the bundle holds already stay in it.
        report: Whether the bundle gets an HTML report.
    """

    data: Path | None = None
    store_root: Path = dataclasses.field(default_factory=lambda: cache_dir() / "features")
    clips: int | None = None
    batch: tuple[int, int, int] | None = None
    target_sm: tuple[int, ...] | None = None
    calibration_clips: int | None = None
    keep: bool = True
    report: bool = False


@dataclasses.dataclass(frozen=True)
class Job:
    """One stage to write in one format.

    Attributes:
        stage: The stage.
        kind: The format.
        path: The file or folder to write; its parent exists.
        reference: The run in Keras, in float32.
        sources: ONNX files and calibration clips that other formats are made from.
        options: The user's choices.
    """

    stage: Stage
    kind: Format
    path: Path
    reference: Reference
    sources: Sources
    options: ExportOptions


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
