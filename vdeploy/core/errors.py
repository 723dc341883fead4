"""Exceptions that a user can cause and resolve, in one tree.

    UserError
    ├── ClipError          one video file cannot be used
    ├── DatasetError       a folder or CSV of clips cannot be used
    ├── WeightsError       a model's weights cannot be found or are not the expected ones
    ├── FeatureStoreError  the feature store cannot be read or written
    ├── RecipeError        a training recipe is wrong
    ├── RunError           a run folder is missing, foreign, unfinished or damaged
    ├── StudyError         an experiment or a distributed extraction cannot start or resume
    ├── LockedError        another process writes the same folder
    ├── MissingExtraError  an optional part of the package is not installed
    └── DeployError
        ├── BenchmarkError   a benchmark cannot run, or its file cannot be read
        ├── BundleError      a bundle is missing, damaged, or differs from its manifest
        ├── ExportError      an artifact could not be exported
        │   └── ParityError  an artifact's outputs differ from the reference's
        ├── RepositoryError  a Triton model repository cannot be written or does not suit the server
        ├── RolloutError     a new version was not put into service
        ├── ServerError      a Triton server cannot be found, started or kept alive
        ├── ClientError      a server does not answer, or not as expected
        │   ├── AccessError  a server refuses a request without its key
        │   └── CrowdedError a server has no room for another stream
        ├── GatewayError     the gateway cannot be started, or its keys cannot be read or written
        ├── SourceError      a camera or a stream cannot be opened or has ended
        └── TimelineError    a document is no timeline, or a timeline cannot be made as requested

Each prints as a single line: what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdeploy.core.text import escape_controls

__all__ = [
    "AccessError",
    "BenchmarkError",
    "BundleError",
    "ClientError",
    "ClipError",
    "CrowdedError",
    "DatasetError",
    "DeployError",
    "ExportError",
    "FeatureStoreError",
    "GatewayError",
    "LockedError",
    "MissingExtraError",
    "ParityError",
    "RecipeError",
    "RepositoryError",
    "RolloutError",
    "RunError",
    "ServerError",
    "SourceError",
    "StudyError",
    "TimelineError",
    "UserError",
    "WeightsError",
]


class UserError(Exception):
    """An error that the user can resolve, described in one line.

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
        return escape_controls(" ".join(line.split()))


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
    """A model's weights cannot be found or are not the expected ones."""


class FeatureStoreError(UserError):
    """The feature store cannot be read or written."""


class RecipeError(UserError):
    """A training recipe is wrong."""


class RunError(UserError):
    """A run folder is missing, foreign, unfinished or damaged."""


class StudyError(UserError):
    """An experiment or a distributed extraction cannot start or resume."""


class LockedError(UserError):
    """Another process writes the same folder."""


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


class DeployError(UserError):
    """An error between a run and an answer that the user can resolve."""


class BenchmarkError(DeployError):
    """A benchmark cannot run, or its file cannot be read."""


class BundleError(DeployError):
    """A bundle is missing, damaged, or differs from its manifest."""


class ExportError(DeployError):
    """An artifact could not be exported."""


class ParityError(ExportError):
    """An artifact's outputs differ from the reference's.

    Args:
        message: What was wrong and where, without a full stop.
        hint: What to do about it, without a full stop; may be empty.
        evidence: Measurements, JSON-ready, for the report that is kept beside the artifact.
    """

    def __init__(self, message: str, hint: str = "", *, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, hint)
        self.evidence = dict(evidence or {})


class RepositoryError(DeployError):
    """A Triton model repository cannot be written, or does not suit the server."""


class RolloutError(DeployError):
    """A version was not put into service; the message ends with the version that serves instead."""


class ServerError(DeployError):
    """A Triton server cannot be found, started or kept alive."""


class ClientError(DeployError):
    """A server does not answer, or not as expected."""


class AccessError(ClientError):
    """A server refuses a request without its key."""


class CrowdedError(ClientError):
    """A server has no room for another stream."""


class GatewayError(DeployError):
    """The gateway cannot be started, or its keys cannot be read or written."""


class SourceError(DeployError):
    """A camera or a stream cannot be opened, or has ended."""


class TimelineError(DeployError):
    """A document is no timeline, or a timeline cannot be made as requested."""
