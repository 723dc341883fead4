"""The errors that a user can cause and mend, as far as training goes.

    UserError
    ├── ClipError          one video file cannot be used
    ├── DatasetError       a folder or CSV of clips cannot be used
    ├── WeightsError       VGG19 weights cannot be had or are not what they claim to be
    ├── FeatureStoreError  the feature store cannot be read or written
    ├── RecipeError        a training recipe is wrong
    ├── RunError           a run folder is missing, foreign, unfinished or damaged
    ├── StudyError         a comparison, a search or a distributed extraction cannot be made or continued
    └── MissingExtraError  an optional part of the package is not installed

Every one of them prints as a single line: what was wrong, where, and what to do about it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

__all__ = [
    "ClipError",
    "DatasetError",
    "FeatureStoreError",
    "MissingExtraError",
    "RecipeError",
    "RunError",
    "StudyError",
    "UserError",
    "WeightsError",
    "require",
]


class UserError(Exception):
    """A mistake or a missing thing outside the program, told in one line.

    Args:
        message: What was wrong and where, without a full stop.
        hint: What to do about it, without a full stop; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.message}; {self.hint}" if self.hint else self.message
        return " ".join(line.split())


class ClipError(UserError):
    """One video file cannot be used.

    Args:
        path: The file.
        reason: Why, for example ``"holds no video stream"``.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ClipError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class DatasetError(UserError):
    """A folder or a CSV of clips cannot be used."""


class WeightsError(UserError):
    """VGG19 weights cannot be had, or are not what they claim to be."""


class FeatureStoreError(UserError):
    """The feature store cannot be read or written."""


class RecipeError(UserError):
    """A training recipe is wrong."""


class RunError(UserError):
    """A run folder is missing, foreign, unfinished or damaged."""


class StudyError(UserError):
    """A comparison, a search or a distributed extraction cannot be made or continued."""


class MissingExtraError(UserError):
    """An optional part of the package is not installed.

    Args:
        module: The module that could not be imported.
        extra: The extra of the ``vdeploy`` package that brings it.
        purpose: What needs it, for example ``"training"``.
    """

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the Python package {module}", f"run: pip install 'vdeploy[{extra}]'")
        self.module = module
        self.extra = extra
        self.purpose = purpose

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.module, self.extra, self.purpose)


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports an optional module, or says which extra brings it.

    Args:
        module: Dotted name of the module, for example ``"onnxruntime"``.
        extra: The extra that installs it.
        purpose: What needs it, as the beginning of a sentence.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingExtraError(module, extra, purpose) from error
