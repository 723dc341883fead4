"""Deploy a bundle to a running Triton: the new version is verified beside the old one, or the old one stays."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdeploy.artifacts.bundle.golden import GoldenClips
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.errors import RolloutError
from vdeploy.core.progress import say
from vdeploy.core.timestamps import now
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.journal import Journal, Record
from vdeploy.triton.deployment.rollout import Rollout
from vdeploy.triton.deployment.undo import Undo, undone_on_failure
from vdeploy.triton.deployment.verification import FIRST_LOOK_SECONDS, Verification, ask_ensemble
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL, FRAMES
from vdeploy.triton.repository.file_hashes import read_hashes
from vdeploy.triton.repository.model_set import ModelSet, stages_called_by
from vdeploy.triton.repository.serving_plan import ServingPlan
from vdeploy.triton.repository.version_policy import inputs_of, interface_of, parameters_of
from vdeploy.triton.repository.writer import write_plan

__all__ = ["Deployed", "deploy", "rollback"]

_CLIPS_TO_ADOPT = 2
"""Synthetic clips by which a version is known again that came without golden ones."""


@dataclasses.dataclass(frozen=True)
class Deployed:
    """What serves after a deployment or a rollback.

    Attributes:
        version: The version that answers.
        previous: The one that it took over from; `None` for the first.
        undone: A version whose deployment had been interrupted, and of which nothing is left.
        proof: How it answered the golden clips; `None` where nothing serves.
        seconds: How long it took.
    """

    version: int | None
    previous: int | None
    undone: int | None
    proof: Verification | None
    seconds: float


def deploy(plan: ServingPlan, control: ModelControl, root: Path, golden: GoldenClips, *, name: str = "") -> Deployed:
    """Puts a bundle into service.

    Where a version serves, it stays until the new one is proven.

    Args:
        plan: The bundle and how it is served; see `vdeploy.triton.planning.plans.plan_deployment`.
        control: The server, in explicit model control mode.
        root: The model repository that it reads.
        golden: Clips that the new version must answer rightly before it serves.
        name: What messages call the repository; its folder if left out.

    Returns:
        What serves now.

    Raises:
        RolloutError: The new version does not serve; the message says why, and what serves instead.
        RepositoryError: The repository cannot be written, or another deployment is going on; nothing has changed.
    """
    started = time.monotonic()
    journal = Journal(root, name)
    with journal.exclusive():
        control.check_access()
        undone = _undo_interrupted(control, journal)
        previous = journal.active()
        if previous is None:
            _refuse_another(control, journal)
        with journal.staging() as staged:
            repository = write_plan(plan, staged / "repository")
            repository.check()
            configs = {
                model: (repository.root / model / CONFIG).read_text(encoding="utf-8") for model in repository.models
            }
            if previous is not None:
                current = journal.current_configs()
                _check_compatible(journal.model_set, current, configs)
                _adopt(control, journal, previous, golden)
            record = _record_of(configs, journal.next_version())
            pending = journal.begin(record.version, previous)
            rollout = Rollout(control, journal)
            with undone_on_failure(control, journal, pending):
                if previous is not None:
                    rollout.secure(previous)
                journal.add(record, golden, configs, read_hashes(repository.root, repository.version))
                journal.take_in(repository.root, repository.version, record.version)
                say(f"rollout: version {record.version} is on disk")
                proof = rollout.activate(pending)
        journal.end()
    return Deployed(record.version, previous, undone, proof, time.monotonic() - started)


def rollback(control: ModelControl, root: Path, *, name: str = "") -> Deployed:
    """Goes back to the version from which the serving one took over, by the same proof.

    Where a deployment was interrupted, undoing that is all that is done.

    Args:
        control: The server.
        root: The model repository that it reads.
        name: What messages call it; its folder if left out.

    Raises:
        RolloutError: There is no such version, or it does not serve; the message says what serves instead.
        RepositoryError: The repository cannot be written, or a deployment is going on; nothing has changed.
    """
    started = time.monotonic()
    journal = Journal(root, name)
    with journal.exclusive():
        control.check_access()
        pending = journal.pending()
        if pending is not None:
            proof = Undo(control, journal).go_back_after_kill(pending)
            return Deployed(pending.previous, None, pending.target, proof, time.monotonic() - started)
        active = journal.active()
        record = None if active is None else journal.record(active)
        if record is None or record.previous is None:
            which = "no version" if active is None else f"version {active}, which took over from none,"
            raise RolloutError(f"there is nothing to go back to: {which} serves from {journal.name}")
        if record.previous not in journal.versions():
            raise RolloutError(f"version {record.previous} is no longer in {journal.name}", "deploy its bundle again")
        pending = journal.begin(record.previous, active)
        with undone_on_failure(control, journal, pending):
            proof = Rollout(control, journal).activate(pending)
        journal.end()
    return Deployed(proof.version, active, None, proof, time.monotonic() - started)


def _undo_interrupted(control: ModelControl, journal: Journal) -> int | None:
    pending = journal.pending()
    if pending is None:
        return None
    say(f"rollout: the deployment of version {pending.target} was interrupted; it is undone first")
    Undo(control, journal).go_back_after_kill(pending)
    return pending.target


def _refuse_another(control: ModelControl, journal: Journal) -> None:
    """A server that serves what is not in the repository reads another one, and a failed deployment would end that."""
    served = [version for version, state in control.states(ENSEMBLE_MODEL).items() if state == "READY"]
    if served:
        raise RolloutError(
            f"the server at {control.url} serves version {served[-1]}, of which {journal.name} knows nothing: it "
            "does not read that repository; nothing has changed",
            "check --repo and --url",
        )


def _check_compatible(model_set: ModelSet, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Refuses a bundle of which a model cannot be loaded beside the one of that name."""
    stages = stages_called_by(new[ENSEMBLE_MODEL])
    if other := [model for model in model_set.ensembles if model not in new]:
        raise RolloutError(
            f"the bundle holds other models than those that serve: it has no {' and no '.join(other)}",
            "serve it from a repository of its own: vdeploy serve BUNDLE --repo OTHER",
        )
    is_same_kind = stages == model_set.stages[: len(stages)]
    for model in model_set.models if is_same_kind else model_set.stages:
        if model in new and interface_of(old[model]) != interface_of(new[model]):
            raise RolloutError(
                f"the bundle's {model} has other tensors or another backend than the one that "
                "serves, and Triton keeps one configuration for all versions of a model",
                "serve it from another repository: vdeploy serve BUNDLE --repo OTHER",
            )
    if not is_same_kind:
        say(f"rollout: {' and '.join(stages)} take over from {' and '.join(model_set.stages[: len(stages)])}")
    for what, of in (("shape", inputs_of), ("fit", _fit_of)):
        if of(old[ENSEMBLE_MODEL]) != of(new[ENSEMBLE_MODEL]):
            say(f"rollout: clips have another {what} from now on; clients that run have to be started again")


def _fit_of(config: str) -> str:
    """How pictures become the frames that an ensemble takes; see `vdeploy.video.clips.ClipSpec`."""
    clip: dict[str, Any] = json.loads(parameters_of(config).get("clip", "{}"))
    return str(clip.get("fit", "squeeze"))


def _adopt(control: ModelControl, journal: Journal, version: int, golden: GoldenClips) -> None:
    """Records a version that was not deployed but only served, with what it answers now as what it must answer."""
    known = journal.record(version)
    if known is not None and journal.is_pinned():
        return
    configs = journal.current_configs()
    golden = journal.served_golden(version) or golden
    frames, size, *_ = inputs_of(configs[ENSEMBLE_MODEL])[FRAMES]
    of_another_shape = golden.frames.shape[1:3] != (frames, size)
    if of_another_shape:
        golden = dataclasses.replace(golden, frames=synthetic_frames(_CLIPS_TO_ADOPT, frames, size))
    try:
        answers = ask_ensemble(control, golden.frames, FIRST_LOOK_SECONDS)
    except RolloutError as error:
        say(f"rollout: version {version} does not answer: {error.message}")
        if of_another_shape:
            raise RolloutError(
                f"version {version} does not answer, and the bundle's clips have another shape, so nothing could prove "
                "that the version is back if the bundle failed",
                "see that it answers, or serve the bundle from another repository: vdeploy serve BUNDLE --repo OTHER",
            ) from error
        answers = golden.probabilities
    record = _record_of(configs, version)
    changes = {"activated": record.written, "previous": known.previous if known else None}
    journal.add(
        record.model_copy(update=changes),
        dataclasses.replace(golden, probabilities=answers, source="its own answers when it was first seen"),
        configs,
    )


def _record_of(configs: Mapping[str, str], version: int) -> Record:
    values = {name: json.loads(text) for name, text in parameters_of(configs[ENSEMBLE_MODEL]).items()}
    return Record(
        version=version,
        run=str(values.get("run", "")),
        bundle_sha256=str(values.get("bundle_sha256", "")),
        written=now(),
    )
