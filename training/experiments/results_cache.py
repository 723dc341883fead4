"""Files of finished trainings and of finished folds, from which an interrupted study resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from training.experiments.result_file import ResultFile
from training.experiments.single_run import Figures
from vdeploy.core.errors import StudyError
from vdeploy.core.locks import folder_lock
from vdeploy.core.text import name_problem

__all__ = ["Ledger", "folds_file", "study_lock"]

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
        self._results = ResultFile(path, version=_VERSION, field="trainings", hint="choose another file: --out FILE")
        names = {"label", *(field.name for field in dataclasses.fields(Figures))}
        if any(not isinstance(entry, dict) or set(entry) != names for entry in self._results.entries.values()):
            raise self._results.refusal("entries of another kind")

    def __len__(self) -> int:
        return len(self._results.entries)

    def __contains__(self, identity: object) -> bool:
        return self._results.get(identity) is not None

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
        folder = self.path.with_name(f".{self.path.name}.{ResultFile.key(identity)[:16]}.partial")
        if identity not in self:
            self._results.put(identity, {"label": label, **dataclasses.asdict(train(folder))})
        shutil.rmtree(folder, ignore_errors=True)  # also after a process was killed when it had written its entry
        entry = self._results.get(identity)
        return Figures(**{name: value for name, value in entry.items() if name != "label"})


def folds_file(path: Path) -> ResultFile:
    """The file of finished folds of cross-validations.

    Args:
        path: The file, which need not exist.

    Raises:
        StudyError: The file is no such file.
    """
    return ResultFile(path, version=1, field="folds", hint="choose another file: --out FILE")


@contextlib.contextmanager
def study_lock(path: Path) -> Iterator[None]:
    """Keeps every other study out of a file while the block lasts.

    Two studies that share clips and recipe would train in the same folders, and each would write the file without the
    entries of the other.

    Args:
        path: The file, which need not exist.

    Raises:
        LockedError: Another study writes there.
        StudyError: Its name is no text, or its folder cannot be written.
    """
    if problem := name_problem(str(path.absolute())):
        raise StudyError(f"{path} {problem}", "choose another file: --out FILE")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(path, "choose another --out"))
        except OSError as error:
            raise StudyError(
                f"cannot write {path} ({error.strerror or error})", "choose another file: --out FILE"
            ) from error
        yield
