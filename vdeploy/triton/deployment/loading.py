"""Load, unload and prove versions on one server, as a rollout and its undoing do."""

from __future__ import annotations

import contextlib

from vdeploy.core.errors import RolloutError
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.pinning import pin_stage, unlist
from vdeploy.triton.deployment.running import versions_to_keep
from vdeploy.triton.deployment.verification import Verification, verify_ensembles

__all__ = ["Loader"]


class Loader:
    """Loads the versions of a repository on one server.

    Args:
        control: The server.
        journal: The repository that it reads; locked.
    """

    def __init__(self, control: ModelControl, journal: Journal) -> None:
        self._control = control
        self._journal = journal

    def _kept(self, stage: str, version: int, before: int | None = None) -> set[int]:
        """The versions of a stage that stay loaded while one serves; another model's are not among them."""
        kept = versions_to_keep(self._journal, version, before)
        return {one for one in kept if stage in self._journal.model_set_of(one).stages}

    def _load(self, stage: str, version: int, versions: set[int]) -> None:
        """Has a stage, configured as a version wants it, load some versions, now and when Triton starts again.

        Raises:
            RolloutError: The version cannot be loaded.
        """
        pin_stage(self._journal, stage, version, versions)
        self._control.load(stage)
        states = self._control.states(stage)
        if states.get(version) != "READY":
            raise RolloutError(
                f"the server at {self._control.url} did not find version {version} of {stage}: "
                f"it does not read {self._journal.name}"
            )

    def _unload(self, model: str) -> None:
        """Has Triton drop all versions of a model, now and when it starts again."""
        unlist(self._journal, model)
        with contextlib.suppress(RolloutError):
            self._control.unload(model)

    def _prove(self, version: int, timeout_seconds: float | None = None) -> Verification:
        """Has a version answer its golden clips the way that clients ask.

        Args:
            version: The version.
            timeout_seconds: How long it may take; as long as any request of the server's if left out.

        Raises:
            RolloutError: It answers wrongly, or not in time.
        """
        timeout_seconds = timeout_seconds or self._control.timeout_seconds
        golden = self._journal.golden(version)
        return verify_ensembles(self._control, version, golden, timeout_seconds, self._journal.model_set_of(version))
