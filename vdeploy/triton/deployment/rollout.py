"""The steps by which one version replaces another, and those that undo them.

Both versions of all stages are loaded before the ensembles are switched, and the old ones stay until the old ensembles
have answered their last requests. So at every moment, and after a kill at any moment, each request runs through stages
of one version, and a server that is started on the repository serves the old version or the new one.

Streams whose windows the server keeps live in one version: the new one does not know them and refuses their next
frame, whereupon clients start them again with the last frames, and no window mixes features of two versions.

A version of another backbone or head brings stages of its own. They are loaded beside the old ones, and after the
switch the old ones are unloaded and lose their configuration, but not their files, to which a rollback goes back.
"""

from __future__ import annotations

import contextlib

from vdeploy.core.errors import RolloutError
from vdeploy.core.progress import say
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.journal import Journal, Pending
from vdeploy.triton.deployment.running import versions_to_keep
from vdeploy.triton.deployment.settling import wait_until_drained, wait_until_settled
from vdeploy.triton.deployment.verification import Verification, verify_ensembles, verify_stages
from vdeploy.triton.names import STREAM_MODELS
from vdeploy.triton.repository.model_set import ModelSet

__all__ = ["Rollout"]

RETURN_SECONDS = 30.0
"""How long a server that has crashed may take until it is back: `vdeploy serve` and orchestrators start it again."""
FIRST_LOOK_SECONDS = 5.0
"""How long a version that should be serving may take to answer before it is given up or loaded again."""


class Rollout:
    """Takes versions into service on one server.

    Args:
        control: The server.
        journal: The repository that it reads; locked.
    """

    def __init__(self, control: ModelControl, journal: Journal) -> None:
        self._control = control
        self._journal = journal

    def secure(self, version: int) -> None:
        """Ties a repository that was only written to the version that serves.

        Until then Triton would load the newest version of each stage whenever it reads the repository.

        Raises:
            RolloutError: The ensemble serves, but cannot be loaded again.
        """
        if self._journal.is_pinned():
            return
        self._end_dropped_streams()
        for stage in self._models_of(version).stages:
            self._journal.pin_stage(stage, version, {version})
        try:
            self._switch(version)
        except RolloutError:
            if self._serves(version):
                raise

    def activate(self, pending: Pending) -> Verification:
        """Has a version take over, once it has proven itself.

        Args:
            pending: The version, recorded and on disk, and the one that serves.

        Raises:
            RolloutError: It cannot be loaded, or answers wrongly or not in time. Use `go_back` then.
        """
        target, previous = pending.target, pending.previous
        models, before = self._models_of(target), ModelSet((), ()) if previous is None else self._models_of(previous)
        beside = {target, previous} if previous is not None and self._serves(previous) else {target}
        self._end_dropped_streams()
        for stage in models.stages:
            self._load(stage, target, beside if stage in before.stages else {target})
        say(f"rollout: version {target} is loaded")
        verify_stages(self._control, target, self._journal.golden(target), self._control.timeout_seconds, models)
        say(f"rollout: version {target} is proven")
        self._switch(target)
        self._prove(target)
        self._journal.activated(target, previous=previous)
        say(f"rollout: version {target} answers")
        if previous is not None:
            self._retire(previous, target)
        return self._prove(target)

    def _retire(self, previous: int, target: int) -> None:
        """Unloads what has been replaced, once it has answered its last request."""
        models, before = self._models_of(target), self._models_of(previous)
        kept = versions_to_keep(self._journal, target, previous)
        for ensemble in models.ensembles:
            wait_until_drained(self._control, previous, ensemble)
        for stage in models.stages:
            self._load(stage, target, self._kept(stage, target, previous))
        for stage in before.stages:
            if stage not in models.stages:
                self._unload(stage)
            if previous not in kept or stage not in models.stages:
                wait_until_drained(self._control, previous, stage)
        stays = previous in kept and set(before.stages) <= set(models.stages)
        say(f"rollout: version {previous} is retired{', and stays loaded' if stays else ''}")

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
        models = self._models_of(target)
        if previous is None:
            for model in reversed(models.models):
                self._unload(model)
            self._journal.remove(target)
            self._journal.end()
            return None
        before = self._models_of(previous)
        for stage in before.stages:
            self._bring_back(stage, previous, target)
        self._journal.pin_ensembles(previous)
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

    def _kept(self, stage: str, version: int, before: int | None = None) -> set[int]:
        """The versions of a stage that stay loaded while one serves; another model's are not among them."""
        kept = versions_to_keep(self._journal, version, before)
        return {one for one in kept if stage in self._models_of(one).stages}

    def _models_of(self, version: int) -> ModelSet:
        return self._journal.model_set_of(version)

    def _unload(self, model: str) -> None:
        """Has Triton drop all versions of a model, now and when it starts again."""
        self._journal.unlist(model)
        with contextlib.suppress(RolloutError):
            self._control.unload(model)

    def _end_dropped_streams(self) -> None:
        """Unloads the models of streams where the repository no longer has them, but the server may.

        Nothing would switch them with the others: windows would go on with features of another version.
        """
        if self._journal.model_set.keeps_streams:
            return
        for model in reversed(STREAM_MODELS):
            with contextlib.suppress(RolloutError):
                self._control.unload(model)

    def _serves(self, version: int) -> bool:
        try:
            self._prove(version, FIRST_LOOK_SECONDS)
        except RolloutError as error:
            say(f"rollout: version {version} does not serve any more: {error.message}")
            return False
        return True

    def _load(self, stage: str, version: int, versions: set[int]) -> None:
        self._journal.pin_stage(stage, version, versions)
        self._control.load(stage)
        states = self._control.states(stage)
        if states.get(version) != "READY":
            raise RolloutError(
                f"the server at {self._control.url} did not find version {version} of {stage}: "
                f"it does not read {self._journal.name}"
            )

    def _switch(self, version: int) -> None:
        self._journal.pin_ensembles(version)
        for ensemble in self._models_of(version).ensembles:
            self._control.load(ensemble)

    def _prove(self, version: int, timeout_seconds: float | None = None) -> Verification:
        timeout_seconds = timeout_seconds or self._control.timeout_seconds
        golden = self._journal.golden(version)
        return verify_ensembles(self._control, version, golden, timeout_seconds, self._models_of(version))

    def _bring_back(self, stage: str, previous: int, target: int) -> None:
        """Makes sure that the stage of the version before is loaded, beside the one that may be answering."""
        states = self._control.states(stage)
        beside = {target} if states.get(target) == "READY" else set()
        self._journal.pin_stage(stage, previous, beside | {previous})
        if states.get(previous) != "READY":
            self._control.load(stage)

    def _revive(self, version: int) -> Verification:
        """Proves a version; one whose process has died is loaded again, which Triton does not do."""
        try:
            return self._prove(version, FIRST_LOOK_SECONDS)
        except RolloutError:
            models = self._models_of(version).models
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
            self._journal.stand_in(stage, target, (stage, previous))
            self._load(stage, previous, {previous, target})
        self._journal.pin_stage(stage, previous, self._kept(stage, previous))
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
            self._journal.stand_in(stage, target, working)
            self._journal.pin_stand_in(stage, target, working)
            with contextlib.suppress(RolloutError):
                self._control.load(stage)
        self._unload(stage)
        wait_until_drained(self._control, target, stage)
