"""Cache of a study's finished trainings in one JSON file, from which an interrupted study resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from training.experiments.single_run import Figures
from vdeploy.core.errors import StudyError
from vdeploy.core.files import write_json
from vdeploy.core.locks import folder_lock

__all__ = ["Ledger", "open_ledger"]

_VERSION = 2


class Ledger:
    """Figures of finished trainings, keyed by everything that they depend on.

    The key is the hash of recipe and clips, so one file can hold several studies, and no study uses the entry of
    another recipe or of other clips.

    Args:
        path: The file; the first entry creates it.

    Raises:
        StudyError: The file is no such cache.
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
        """Returns the figures of a training, from the file if it holds them.

        Args:
            identity: JSON-ready; everything that the figures depend on.
            label: Name of the training in the file.
            train: Trains in a folder; after an interruption it is called with the same folder and its checkpoints.

        Raises:
            StudyError: The file cannot be written.
            UserError: As raised by ``train``.
        """
        key = _key(identity)
        folder = self.path.with_name(f".{self.path.name}.{key[:16]}.partial")
        if key not in self._entries:
            result = train(folder)
            self._entries[key] = {"label": label, **dataclasses.asdict(result)}
            self._write()
        shutil.rmtree(folder, ignore_errors=True)  # also after a process was killed when it had written its entry
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


@contextlib.contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Opens a cache and keeps every other study out of it while the block lasts.

    Two studies that share clips and recipe would train in the same folders, and each would write the file without the
    entries of the other.

    Args:
        path: The file, which need not exist.

    Raises:
        LockedError: Another study writes there.
        StudyError: The file is no such cache, or its folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(path, "choose another --out"))
        except OSError as error:
            raise StudyError(
                f"cannot write {path} ({error.strerror or error})", "choose another file: --out FILE"
            ) from error
        yield Ledger(path)


def _key(identity: object) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
