"""Finished trainings of a study in one JSON file, so that an interrupted study goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.experiments.single_run import Figures
from vdeploy.core.errors import StudyError
from vdeploy.core.files import write_json

__all__ = ["Ledger"]

_VERSION = 2


class Ledger:
    """Figures by everything that they depend on.

    An entry is found by the hash of what was trained on what, so one file may hold several studies, and a study with
    another recipe or other clips never takes an entry that is not its own.

    Args:
        path: The file; it is made by the first entry.

    Raises:
        StudyError: The file is not a ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._entries = self._read()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, identity: object) -> bool:
        return _key(identity) in self._entries

    def figures(self, identity: object, label: str, train: Callable[[Path], Figures]) -> Figures:
        """The figures of a training, which is done unless it is in the file.

        Args:
            identity: JSON-ready; everything that the figures depend on.
            label: The training's name for readers of the file.
            train: Trains in a folder; after a kill it is called with the same folder, checkpoints and all.

        Raises:
            StudyError: The file cannot be written.
            UserError: As ``train`` raises.
        """
        key = _key(identity)
        folder = self.path.with_name(f".{self.path.name}.{key[:16]}.partial")
        if key not in self._entries:
            result = train(folder)
            self._entries[key] = {"label": label, **dataclasses.asdict(result)}
            self._write()
        shutil.rmtree(folder, ignore_errors=True)  # also that of a process which was killed after its entry was written
        return Figures(**{name: value for name, value in self._entries[key].items() if name != "label"})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["version"] != _VERSION:
                raise ValueError(f"version {content['version']}, not {_VERSION}")
            names = {"label", *(field.name for field in dataclasses.fields(Figures))}
            entries: dict[str, dict[str, Any]] = content["trainings"]
            if any(set(entry) != names for entry in entries.values()):
                raise ValueError("entries of another kind")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StudyError(
                f"{self.path} is no file of finished trainings ({error})", "remove it or choose another: --out FILE"
            ) from error
        return entries

    def _write(self) -> None:
        try:
            write_json(self.path, {"version": _VERSION, "trainings": self._entries})
        except OSError as error:
            raise StudyError(
                f"cannot write {self.path} ({error.strerror or error})",
                "free some space or choose another file: --out FILE; what it held is kept",
            ) from error


def _key(identity: object) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
