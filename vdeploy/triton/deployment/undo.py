"""The way back from a rollout that has failed, or whose process was killed, to the version that served before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vdeploy.core.errors import RolloutError, UserError
from vdeploy.core.progress import say
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.journal import Journal, Pending
from vdeploy.triton.deployment.loading import Loader
from vdeploy.triton.deployment.pinning import pin_ensembles, pin_stage, pin_stand_in, stand_in
from vdeploy.triton.deployment.settling import wait_until_drained, wait_until_settled
from vdeploy.triton.deployment.verification import FIRST_LOOK_SECONDS, Verification

__all__ = ["Undo", "undone_on_failure"]

RETURN_SECONDS = 30.0
"""How long a server that has crashed may take until it is back: `vdeploy serve` and orchestrators start it again."""


@contextlib.contextmanager
def undone_on_failure(control: ModelControl, journal: Journal, pending: Pending) -> Iterator[None]:
    """Goes back when the block fails, and says in the error what serves then.

    Args:
        control: The server.
        journal: The repository that it reads; locked.
        pending: What the block does.

    Raises:
        RolloutError: The block has failed.
    """
    try:
        yield
    except BaseException as error:
        why = error.message if isinstance(error, UserError) else str(error) or type(error).__name__
        failed = f"version {pending.target} was not taken into service: {why}"
        try:
            Undo(control, journal).go_back(pending)
        except (UserError, OSError) as second:
            reason = second.message if isinstance(second, UserError) else str(second)
            raise RolloutError(
                f"{failed}; going back to version {pending.previous} failed too: {reason}",
                "restart the server, then run: vdeploy rollback",
            ) from error
        if not isinstance(error, UserError | OSError):
            raise
        none = pending.previous is None
        serves = "nothing serves, as before" if none else f"version {pending.previous} serves as before"
        raise RolloutError(f"{failed}; {serves}") from error


class Undo(Loader):
    """Takes the steps of a rollout back on one server."""

    def go_back_after_kill(self, pending: Pending) -> Verification | None:
        """Undoes a rollout whose process was killed; see `go_back`.

        Triton completes what that process has requested, and that would undo the undoing: so it has to end first.

        Raises:
            RolloutError: The version before cannot be taken back into service.
        """
        wait_until_settled(self._control, self._journal.known_models)
        return self.go_back(pending)

    def go_back(self, pending: Pending) -> Verification | None:
        """Undoes a rollout that has failed, however far it had come.

        Args:
            pending: What it was about to do.

        Returns:
            Verification that the version before serves; `None` where there was none.

        Raises:
            RolloutError: It cannot be taken back into service.
            ClientError: The server has ended and was not restarted.
        """
        self._control.wait_until_live(min(self._control.timeout_seconds, RETURN_SECONDS))
        target, previous = pending.target, pending.previous
        record = self._journal.record(target)
        models = self._journal.model_set_of(target)
        if previous is None:
            for model in reversed(models.models):
                self._unload(model)
            self._journal.remove(target)
            self._journal.end()
            return None
        before = self._journal.model_set_of(previous)
        for stage in before.stages:
            self._bring_back(stage, previous, target)
        pin_ensembles(self._journal, previous)
        for ensemble in before.ensembles:
            if self._control.states(ensemble).get(previous) != "READY":
                self._control.load(ensemble)
        self._revive(previous)
        for ensemble in before.ensembles:
            wait_until_drained(self._control, target, ensemble)
        for stage, stage_before in zip(models.stages, before.stages, strict=True):
            if stage in before.stages:
                self._drop(stage, previous, target)
            else:
                self._drop_all(stage, target, working=(stage_before, previous))
        proof = self._revive(previous)
        if record is None or not record.activated:
            self._journal.remove(target)
        self._journal.end()
        return proof

    def _bring_back(self, stage: str, previous: int, target: int) -> None:
        """Makes sure that the stage of the version before is loaded, beside the one that may be answering."""
        states = self._control.states(stage)
        beside = {target} if states.get(target) == "READY" else set()
        pin_stage(self._journal, stage, previous, beside | {previous})
        if states.get(previous) != "READY":
            self._control.load(stage)

    def _revive(self, version: int) -> Verification:
        """Proves a version; one whose process has died is loaded again, which Triton does not do."""
        try:
            return self._prove(version, FIRST_LOOK_SECONDS)
        except RolloutError:
            models = self._journal.model_set_of(version).models
            for model in reversed(models):
                with contextlib.suppress(RolloutError):
                    self._control.unload(model)
            for model in models:
                self._control.load(model)
            return self._prove(version)

    def _drop(self, stage: str, previous: int, target: int) -> None:
        """Drops a version of a stage, and has Triton forget that it failed, for it stays unready over that.

        Triton forgets when that number is loaded without an error, so it gets to load the files of the version before
        under that number, which nothing calls.
        """
        state = self._control.states(stage).get(target, "UNLOADED")
        if state == "UNAVAILABLE":
            stand_in(self._journal, stage, target, (stage, previous))
            self._load(stage, previous, {previous, target})
        pin_stage(self._journal, stage, previous, self._kept(stage, previous))
        if state in {"UNAVAILABLE", "READY"}:
            self._control.load(stage)
            wait_until_drained(self._control, target, stage)
        elif state == "LOADING":
            say(f"rollout: Triton still tries to load version {target} of {stage}; restart it at a convenient time")

    def _drop_all(self, stage: str, target: int, working: tuple[str, int]) -> None:
        """Drops a stage of which no other version serves, and has Triton forget that it failed; see `_drop`.

        Args:
            stage: The stage.
            target: Its version.
            working: The stage that serves in its place, and its version.
        """
        if self._control.states(stage).get(target) == "UNAVAILABLE":
            stand_in(self._journal, stage, target, working)
            pin_stand_in(self._journal, stage, target, working)
            with contextlib.suppress(RolloutError):
                self._control.load(stage)
        self._unload(stage)
        wait_until_drained(self._control, target, stage)
