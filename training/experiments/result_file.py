"""A JSON file of finished results, each found again by everything that it depends on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vdeploy.core.errors import StudyError
from vdeploy.core.files import write_json

__all__ = ["ResultFile"]


class ResultFile:
    """Results keyed by the hash of their identity, so one file can hold those of several studies.

    Args:
        path: The file; the first result creates it.
        version: Version of the entries; a file of another version is refused.
        field: Name of the entries in the file.
        hint: What a user can do about a file that cannot be used.

    Raises:
        StudyError: The file is no such file.
    """

    def __init__(self, path: Path, *, version: int, field: str, hint: str) -> None:
        self.path = path
        self._version, self._field, self._hint = version, field, hint
        self.entries: dict[str, Any] = self._read() if path.exists() else {}

    @staticmethod
    def key(identity: object) -> str:
        """The key of an identity, which is JSON-ready."""
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def get(self, identity: object) -> Any:
        """The result, or ``None``."""
        return self.entries.get(self.key(identity))

    def put(self, identity: object, result: Any) -> None:
        """Adds a JSON-ready result and writes the file.

        Raises:
            StudyError: The file cannot be written; what it held is kept.
        """
        self.entries[self.key(identity)] = result
        try:
            write_json(self.path, {"version": self._version, self._field: self.entries})
        except OSError as error:
            raise StudyError(
                f"cannot write {self.path} ({error.strerror or error})", f"free some space, or {self._hint}"
            ) from error

    def refusal(self, reason: object) -> StudyError:
        """The error that says why the file cannot be used."""
        return StudyError(f"{self.path} is no file of finished trainings ({reason})", f"remove it, or {self._hint}")

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["version"] != self._version:
                raise ValueError(f"version {content['version']}, not {self._version}")
            return dict(content[self._field])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self.refusal(error) from error
