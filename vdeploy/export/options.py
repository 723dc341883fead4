"""What a user may choose for an export besides the formats."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vdeploy.core.files import cache_dir

__all__ = ["ExportOptions"]


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
