"""The exceptions that a user can cause and repair, in one tree.

    UserError
    ├── ClipError          one video file cannot be used
    ├── DatasetError       a folder or CSV of clips cannot be used
    ├── WeightsError       a model's weights cannot be found or are not what they claim to be
    ├── FeatureStoreError  the feature store cannot be read or written
    ├── RecipeError        a training recipe is wrong
    ├── RunError           a run folder is missing, foreign, unfinished or damaged
    ├── StudyError         an experiment or a distributed extraction cannot be made or continued
    ├── LockedError        another process writes the same folder
    ├── MissingExtraError  an optional part of the package is not installed
    └── DeployError
        ├── BenchmarkError   a benchmark cannot be made, or its file cannot be read
        ├── BundleError      a bundle is missing, damaged, or not what its manifest says
        ├── ExportError      an artifact could not be made
        │   └── ParityError  an artifact does not compute what the reference computes
        ├── RepositoryError  a Triton model repository cannot be written or does not suit the server
        ├── RolloutError     a new version was not put into service
        ├── ServerError      a Triton server cannot be found, started or kept alive
        ├── ClientError      a server does not answer, or not with what was asked for
        │   ├── AccessError  a server refuses an order that lacks its key
        │   └── CrowdedError a server keeps as many streams as it may
        ├── GatewayError     the gateway cannot be started, or its keys cannot be read or written
        ├── SourceError      a camera or a stream cannot be opened or has ended
        └── TimelineError    a document is no timeline, or a timeline cannot be made as requested

Each of them prints as a single line: what was wrong, where, and what to do about it.
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
    """A mistake or a missing thing outside the program, described in one line.

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
    """VGG19 weights cannot be had, or are not what they claim to be."""


class FeatureStoreError(UserError):
    """The feature store cannot be read or written."""


class RecipeError(UserError):
    """A training recipe is wrong."""


class RunError(UserError):
    """A run folder is missing, foreign, unfinished or damaged."""


class StudyError(UserError):
    """A comparison, a search or a distributed extraction cannot be made or continued."""


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
    """Anything that goes wrong between a run and an answer, and that a user can mend."""


class BenchmarkError(DeployError):
    """A benchmark cannot be made, or its file cannot be read."""


class BundleError(DeployError):
    """A bundle is missing, damaged, or not what its manifest says."""


class ExportError(DeployError):
    """An artifact could not be made."""


class ParityError(ExportError):
    """An artifact was made, but does not compute what the reference computes.

    Args:
        message: What was wrong and where, without a full stop.
        hint: What to do about it, without a full stop; may be empty.
        evidence: What was measured, JSON-ready, for the report that is kept beside the artifact.
    """

    def __init__(self, message: str, hint: str = "", *, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, hint)
        self.evidence = dict(evidence or {})


class RepositoryError(DeployError):
    """A Triton model repository cannot be written, or is not right for the server."""


class RolloutError(DeployError):
    """A version could not be taken into service; the message ends with what serves instead."""


class ServerError(DeployError):
    """A Triton server cannot be found, started or kept alive."""


class ClientError(DeployError):
    """A server does not answer, or not with what was asked for."""


class AccessError(ClientError):
    """A server takes no such order from whoever does not know its key."""


class CrowdedError(ClientError):
    """A server keeps as many streams as it may; one more has to wait."""


class GatewayError(DeployError):
    """The gateway cannot be started, or its keys cannot be read or written."""


class SourceError(DeployError):
    """A camera or a stream cannot be opened, or has ended."""


class TimelineError(DeployError):
    """A document is no timeline, or a timeline cannot be made as asked for."""
