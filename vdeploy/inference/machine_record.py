"""What was measured of a bundle on one machine, kept in the cache under the names of both.

It is not kept in the bundle: a bundle is signed and the same on every machine, and a file in it that its manifest does
not list is refused, because no hash covers it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vdeploy.core.files import cache_dir, write_json
from vdeploy.core.progress import say

__all__ = ["MachineRecord", "read_record", "record_path", "save_record"]


class MachineRecord(BaseModel):
    """A record of a bundle on one machine; its classes add what was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: ClassVar[str]
    """Folder of the records in the cache."""

    bundle_sha256: str = Field(description="of the bundle's manifest")
    cpu: str = Field(description="model name of the processor")
    cores: int = Field(description="cores that could be used")

    @property
    def path(self) -> Path:
        """Its file in the cache, named after the bundle and the machine."""
        return record_path(self.folder, self.bundle_sha256, self.cpu, self.cores)


Record = TypeVar("Record", bound=MachineRecord)


def record_path(folder: str, bundle_sha256: str, cpu: str, cores: int) -> Path:
    """File of a record in the cache."""
    machine = hashlib.sha256(f"{cpu}\n{cores}".encode()).hexdigest()
    return cache_dir() / folder / f"{bundle_sha256[:32]}-{machine[:16]}.json"


def read_record(kind: type[Record], bundle_sha256: str, cpu: str, cores: int, remedy: str) -> Record | None:
    """Reads a record; one that cannot be read, or is of another bundle or machine, is reported in a line.

    Args:
        kind: Its class.
        bundle_sha256: Hash of the bundle's manifest.
        cpu: Model name of the processor.
        cores: Cores that this process may use.
        remedy: The command that measures again.

    Returns:
        The record; `None` where there is none that counts.
    """
    path = record_path(kind.folder, bundle_sha256, cpu, cores)
    try:
        found = kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"is damaged ({': '.join([*map(str, first['loc']), first['msg']])})"
    else:
        if (found.bundle_sha256, found.cpu, found.cores) == (bundle_sha256, cpu, cores):
            return found
        problem = "is of another bundle or machine"
    say(f"{kind.folder}: {path} {problem} and is ignored; measure again: {remedy}")
    return None


def save_record(record: MachineRecord) -> None:
    """Writes a record atomically; its folder is created.

    Raises:
        OSError: The cache cannot be written.
    """
    write_json(record.path, record.model_dump(mode="json"))
