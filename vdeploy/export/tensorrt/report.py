"""The papers of an engine: what it was built with and what was found in it, in a file beside it.

An engine can be opened only on a GPU that it is for. Its papers say elsewhere what is in it, and hold the hash of the
engine that they belong to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vdeploy.artifacts.file_headers.tensorrt import LibraryName, read_plan
from vdeploy.core.errors import ExportError
from vdeploy.core.files import sha256_of
from vdeploy.export.tensorrt.inspection import precision_of_weights, refuse_other_weights
from vdeploy.export.tensorrt.layers import ComputeLayer, network_precision
from vdeploy.export.tensorrt.network import Shapes
from vdeploy.export.tensorrt.timing_cache import TimingCacheUse

__all__ = ["EngineReport", "found_precision", "read_report", "report_file"]

_REMEDY = "build the engine again: vdeploy export"


class EngineReport(BaseModel):
    """What an engine was built with and what was found in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: LibraryName
    version: str = Field(description="of the library; only the same one runs the engine")
    capabilities: tuple[int, ...] = Field(description="compute capabilities that the engine runs on, 86 for 8.6")
    shapes: dict[str, Shapes] = Field(description="smallest, usual and largest shape of each input")
    flags: dict[str, bool | int | str | None] = Field(description="how the builder was set")
    precision: str = Field(description="precision found: one word, or 'mixed: …' with the layers")
    layers: tuple[ComputeLayer, ...] = Field(description="layers that multiply matrices, as parsed")
    weight_bytes: int | None = Field(description="size of the weights in the engine; null where the file does not tell")
    engine_types: dict[str, int] | None = Field(
        description="tensors between the layers of the opened engine by type; null where this machine could not open it"
    )
    bytes: int
    sha256: str
    build_seconds: float
    timing_cache: TimingCacheUse


def report_file(engine: Path) -> Path:
    """The file beside an engine that holds its papers."""
    return engine.with_name(f"{engine.name}.json")


def read_report(engine: Path) -> EngineReport:
    """Reads the papers of an engine.

    Raises:
        ExportError: There are none, they cannot be read, or they belong to another engine.
        BundleError: The engine is missing or damaged.
    """
    read_plan(engine)
    file = report_file(engine)
    try:
        report = EngineReport.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ExportError(
            f"the papers of an engine, {file}, cannot be read ({error.strerror or error})", _REMEDY
        ) from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ExportError(f"{file} holds no papers of an engine: {where}: {first['msg']}", _REMEDY) from error
    if sha256_of(engine) != report.sha256:
        raise ExportError(f"{file} belongs to another engine than {engine}", _REMEDY)
    return report


def found_precision(engine: Path) -> str:
    """The precision of an engine: what its network computes in, unless the size of its weights speaks against it.

    Args:
        engine: The file.

    Returns:
        ``"fp32"``, ``"fp16"``, ``"int8"``, or ``"mixed: …"`` with the layers that differ.

    Raises:
        ExportError: The engine has no papers of its own, or its weights fit no precision.
        BundleError: The engine is missing or damaged.
    """
    report, plan = read_report(engine), read_plan(engine)
    by_network, by_weights = network_precision(report.layers), precision_of_weights(plan, report.layers)
    if by_network.startswith("mixed") or by_weights is None:
        refuse_other_weights(plan, report.layers)
        return by_network
    return by_weights
