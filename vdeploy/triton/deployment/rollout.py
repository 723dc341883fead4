"""The steps by which one version replaces another; `vdeploy.triton.deployment.undo` takes them back.

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
from vdeploy.triton.deployment.journal import Pending
from vdeploy.triton.deployment.loading import Loader
from vdeploy.triton.deployment.pinning import pin_ensembles, pin_stage
from vdeploy.triton.deployment.running import versions_to_keep
from vdeploy.triton.deployment.settling import wait_until_drained
from vdeploy.triton.deployment.verification import FIRST_LOOK_SECONDS, Verification, verify_stages
from vdeploy.triton.names import STREAM_MODELS
from vdeploy.triton.repository.model_set import ModelSet

__all__ = ["Rollout"]


class Rollout(Loader):
    """Takes versions into service on one server."""

    def secure(self, version: int) -> None:
        """Ties a repository that was only written to the version that serves.

        Until then Triton would load the newest version of each stage whenever it reads the repository.

        Raises:
            RolloutError: The ensemble serves, but cannot be loaded again.
        """
        if self._journal.is_pinned():
            return
        self._end_dropped_streams()
        for stage in self._journal.model_set_of(version).stages:
            pin_stage(self._journal, stage, version, {version})
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
            RolloutError: It cannot be loaded, or answers wrongly or not in time. Undo it then.
        """
        target, previous = pending.target, pending.previous
        models = self._journal.model_set_of(target)
        before = ModelSet((), ()) if previous is None else self._journal.model_set_of(previous)
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
        models, before = self._journal.model_set_of(target), self._journal.model_set_of(previous)
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

    def _switch(self, version: int) -> None:
        pin_ensembles(self._journal, version)
        for ensemble in self._journal.model_set_of(version).ensembles:
            self._control.load(ensemble)
