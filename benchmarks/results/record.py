"""What a study found, kept in `benchmarks/records/STUDY.json`: each step's command, date, machine and result."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vdeploy.benchmark.measure.machine import describe_machine
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.files import write_json
from vdeploy.core.timestamps import now
from vdeploy.inference.runtimes.base import available_cores

__all__ = ["Measurement", "Record", "load_record", "make_measurement", "save_measurement"]

_OF_THE_MEASUREMENT = ("created", "environment", "command")
_FOLDERS = re.compile(r"(?<![\w.:/])(?:file://)?/(?:[\w.+@-]+/)+")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measurement(_Model):
    """One command's result."""

    command: str = Field(description="as shown to readers: inputs by name, without options for the output")
    created: str = Field(description="ISO 8601")
    seconds: float | None = Field(None, description="how long the command took")
    environment: dict[str, Any] = Field(description="as of a benchmark.json; what is not known may be left out")
    note: str = Field("", description="what a reader of these figures, and of no others, should know")
    transcribed: bool = Field(
        False, description="whether somebody typed what the command printed; no more is known then"
    )
    result: Any


class Record(_Model):
    """All that is known of a study."""

    study: str
    measurements: dict[str, Measurement] = Field(description="by step")


def make_measurement(command: str, output: Any, *, seconds: float | None = None, note: str = "") -> Measurement:
    """A measurement of what a command gave.

    Date and machine are those that the output tells, else now and this one. Of paths, the last part is kept: where
    things lay on somebody's disk concerns no reader.

    Args:
        command: As a reader may see it.
        output: The command's JSON.
        seconds: How long it took.
        note: What a reader should know.
    """
    result, told = output, dict[str, Any]()
    if isinstance(output, dict):
        told = {name: output[name] for name in _OF_THE_MEASUREMENT if name in output}
        result = {name: value for name, value in output.items() if name not in told}
    return Measurement(
        command=command,
        created=told.get("created") or now(),
        seconds=seconds,
        environment=told.get("environment") or describe_machine(available_cores()).model_dump(mode="json"),
        note=note,
        result=_without_folders(result),
    )


def load_record(folder: Path, study: str) -> Record:
    """Reads a study's record; one without measurements where there is none.

    Raises:
        BenchmarkError: It cannot be read, or is the record of something else.
    """
    file = folder / f"{study}.json"
    hint = "mend it, or remove it and run the study again"
    try:
        record = Record.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Record(study=study, measurements={})
    except OSError as error:
        raise BenchmarkError(f"{file} cannot be read ({error.strerror or error})", hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BenchmarkError(f"{file} is no record: {where}: {first['msg']}", hint) from error
    except ValueError as error:
        raise BenchmarkError(f"{file} is no JSON ({error})", hint) from error
    if record.study != study:
        raise BenchmarkError(f"{file} is the record of {record.study!r}", hint)
    return record


def save_measurement(folder: Path, study: str, step: str, measurement: Measurement) -> None:
    """Puts a measurement in the place of the step's last one; the other steps' stay. The file is replaced atomically.

    Raises:
        BenchmarkError: The record that is there cannot be read, or none can be written.
    """
    record = load_record(folder, study)
    measurements: Mapping[str, Measurement] = {**record.measurements, step: measurement}
    values = {name: each.model_dump(mode="json") for name, each in measurements.items()}
    try:
        write_json(folder / f"{study}.json", {"study": study, "measurements": values})
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"the record of {study} cannot be written to {folder} ({error})") from error


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value
