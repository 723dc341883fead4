"""Checks of the version that a server is about to serve: its files before the start, its answers after it."""

from __future__ import annotations

from vdeploy.core.errors import RolloutError, ServerError
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.verification import verify_ensembles
from vdeploy.triton.repository.file_hashes import check_hashes
from vdeploy.triton.repository.repository import Repository

__all__ = ["check_answers", "check_files"]

GOLDEN_CLIPS = 2
"""How many golden clips a server must answer rightly when it starts."""


def check_files(repository: Repository) -> None:
    """Refuses a version whose files are not those that were written.

    Raises:
        RepositoryError: A file is missing, is another one, or does not belong there.
    """
    journal = Journal(repository.root)
    check_hashes(repository.root, journal.active() or repository.version, journal.model_set.models)


def check_answers(repository: Repository, url: str, timeout_seconds: float) -> None:
    """Refuses a version that answers a golden clip wrongly; a version without golden clips passes.

    While a deployment is going on, it checks the versions itself.

    Args:
        repository: What the server serves.
        url: Its gRPC address.
        timeout_seconds: How long the answers may take.

    Raises:
        ServerError: An answer is wrong, or late.
    """
    journal = Journal(repository.root)
    version = journal.active() or repository.version
    golden = journal.served_golden(version)
    if golden is None or journal.goes_on():
        return
    try:
        with ModelControl(url, timeout_seconds=timeout_seconds) as control:
            verify_ensembles(control, version, golden.first(GOLDEN_CLIPS), timeout_seconds, journal.model_set)
    except RolloutError as error:
        raise ServerError(error.message, "put another bundle into service, or export the run again") from error
