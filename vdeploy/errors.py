"""The whole error family, one tree.

UserError (training.errors)
├── ClipError, DatasetError, WeightsError, FeatureStoreError, RecipeError, RunError, StudyError, MissingExtraError
└── DeployError
    ├── BenchmarkError   a benchmark cannot be made, or its file cannot be read
    ├── BundleError      a bundle is missing, damaged, or not what its manifest says
    ├── ExportError      an artifact could not be made
    │   └── ParityError  an artifact was made, but does not compute what the reference computes
    ├── RepositoryError  a Triton model repository cannot be written or is not right for the server
    ├── RolloutError     a new version was not taken into service, and which one serves now
    ├── ServerError      a Triton server cannot be found, started or kept alive
    ├── ClientError      a server does not answer, or not with what was asked for
    │   ├── AccessError  a server takes no such order from whoever does not know its key
    │   └── CrowdedError a server keeps as many streams as it may
    ├── GatewayError     the gateway cannot be started, or its keys cannot be read or written
    ├── SourceError      a camera or a stream cannot be opened or has ended
    └── TimelineError    a document is no timeline, or a timeline cannot be made as asked for
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.errors import (
    ClipError,
    DatasetError,
    FeatureStoreError,
    MissingExtraError,
    RecipeError,
    RunError,
    StudyError,
    UserError,
    WeightsError,
    require,
)

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
    "require",
]


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
