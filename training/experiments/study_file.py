"""The SQLite file of an Optuna study, which belongs to one recipe, some clips and one objective."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from vdeploy.core.errors import StudyError

__all__ = ["open_study"]

_STUDY = "vdeploy"
_IDENTITY = "identity"
_OTHERS = {"objective": "another objective", "data": "other clips", "recipe": "another recipe"}


def open_study(optuna: Any, file: Path, identity: dict[str, Any]) -> Any:
    """Opens a study, or creates one.

    Args:
        optuna: The module.
        file: The file.
        identity: JSON-ready values under ``"objective"``, ``"data"`` and ``"recipe"``.

    Raises:
        StudyError: The file is no study, is one of something else, or cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_header(file)
        study = optuna.create_study(
            storage=f"sqlite:///{file.absolute()}", study_name=_STUDY, direction="maximize", load_if_exists=True
        )
        known = study.user_attrs.get(_IDENTITY)
        if known is None:
            study.set_user_attr(_IDENTITY, identity)
    except (OSError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        raise StudyError(f"{file} cannot be used as a study ({error})", "choose another: --study FILE") from error
    if known not in (None, identity):
        what = next(what for name, what in _OTHERS.items() if known.get(name) != identity[name])
        raise StudyError(f"{file} is a study of {what}", "choose another: --study FILE")
    return study


def _check_header(file: Path) -> None:
    if file.exists():
        with file.open("rb") as content:
            if content.read(16) not in (b"", b"SQLite format 3\0"):
                raise OSError("it is no SQLite file")
