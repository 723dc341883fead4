"""Records of studies in `benchmarks/records/STUDY.json`: command, date, machine and result of each step."""

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
    """The result of one command."""

    command: str = Field(description="as shown to readers: inputs by name, without options for the output")
    created: str = Field(description="ISO 8601")
    seconds: float | None = Field(None, description="how long the command took")
    environment: dict[str, Any] = Field(description="as of a benchmark.json; what is not known may be left out")
    note: str = Field("", description="remark for readers of these figures")
    transcribed: bool = Field(False, description="whether the result was typed from the printed output")
    result: Any


class Record(_Model):
    """All measurements of a study."""

    study: str
    measurements: dict[str, Measurement] = Field(description="by step")


def make_measurement(command: str, output: Any, *, seconds: float | None = None, note: str = "") -> Measurement:
    """Makes a measurement from the output of a command.

    Date and machine are those of the output, else the present ones. Only the last part of each path is kept.

    Args:
        command: The command as shown to readers.
        output: Its JSON.
        seconds: Its duration.
        note: Remark for readers.
    """
    result, known = output, dict[str, Any]()
    if isinstance(output, dict):
        known = {name: output[name] for name in _OF_THE_MEASUREMENT if name in output}
        result = {name: value for name, value in output.items() if name not in known}
    return Measurement(
        command=command,
        created=known.get("created") or now(),
        seconds=seconds,
        environment=known.get("environment") or describe_machine(available_cores()).model_dump(mode="json"),
        note=note,
        result=_without_folders(result),
    )


def load_record(folder: Path, study: str) -> Record:
    """Reads the record of a study; it is empty where there is no file.

    Raises:
        BenchmarkError: The file cannot be read, or is the record of another study.
    """
    file = folder / f"{study}.json"
    hint = "repair it, or remove it and run the study again"
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
    """Replaces the measurement of a step in the record of a study. The file is replaced atomically.

    Raises:
        BenchmarkError: The record cannot be read or written.
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
