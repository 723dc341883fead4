"""The records of a journal: one of each version, and one of the deployment that is going on."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vdeploy.core.errors import RepositoryError

__all__ = ["Pending", "Record", "parse_record", "read_text"]

Kind = TypeVar("Kind", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Record(_Model):
    """One version.

    Attributes:
        version: Its number.
        run: Name of the run that was exported.
        bundle_sha256: SHA-256 of the bundle's manifest.
        written: When it was put into the repository, ISO 8601.
        activated: When it was last taken into service, ISO 8601; empty while it never was.
        previous: The version that it took over from.
    """

    version: int
    run: str
    bundle_sha256: str
    written: str
    activated: str = ""
    previous: int | None = None


class Pending(_Model):
    """A deployment or rollback that is going on, or was killed.

    Attributes:
        target: The version that it brings.
        previous: The version that served before; `None` if none did.
        process: Id of the process.
    """

    target: int
    previous: int | None
    process: int


def parse_record(kind: type[Kind], file: Path) -> Kind:
    """Reads a record.

    Raises:
        RepositoryError: It cannot be read as one.
    """
    try:
        return kind.model_validate_json(read_text(file))
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise RepositoryError(f"{file} cannot be read ({why})", "deploy the bundle to another repository") from error


def read_text(file: Path) -> str:
    """Reads a file of the journal.

    Raises:
        RepositoryError: It cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{file} cannot be read ({error})", "deploy the bundle to another repository") from error
