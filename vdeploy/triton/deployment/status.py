"""The state of a server: its versions, which are loaded, which one answers, since when, and whether correctly."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from vdeploy.core.errors import AccessError, ClientError, RepositoryError, RolloutError
from vdeploy.core.runtime_messages import without_source
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.journal import Journal, Pending, Record
from vdeploy.triton.deployment.verification import FIRST_LOOK_SECONDS, verify_ensembles
from vdeploy.triton.names import ENSEMBLE_MODEL, FRAMES, PROBABILITIES, STREAM_MODELS
from vdeploy.triton.repository.model_set import PLAIN

__all__ = ["Status", "VersionStatus", "read_status"]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """One version.

    Attributes:
        version: Its number.
        on_disk: Whether all of its models are in the repository; `None` where the repository was not looked at.
        loaded: Triton's state of each of its models, by model; empty where the server restricts it.
        answers: Whether it is the one that answers.
        record: What the repository knows of it.
    """

    version: int
    on_disk: bool | None
    loaded: dict[str, str]
    answers: bool
    record: Record | None


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of a server and its repository.

    Attributes:
        url: The server.
        ready: Whether Triton calls itself ready.
        answering: The version that has just answered; `None` if none did.
        healthy: Whether it answers, and its golden clips rightly where the repository holds them.
        problem: What is wrong; empty where nothing is.
        milliseconds: Time of an answer.
        since: When the answering version was taken into service, ISO 8601; empty where that is not recorded.
        run: Name of the run that answers.
        pending: A deployment that is going on or was interrupted.
        versions: All versions, rising.
    """

    url: str
    ready: bool
    answering: int | None
    healthy: bool
    problem: str
    milliseconds: float | None
    since: str
    run: str
    pending: Pending | None
    versions: tuple[VersionStatus, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        values = dataclasses.asdict(self)
        values["pending"] = self.pending.model_dump() if self.pending else None
        for entry, version in zip(values["versions"], self.versions, strict=True):
            entry["record"] = version.record.model_dump() if version.record else None
        return values


def read_status(control: ModelControl, root: Path | None = None) -> Status:
    """Looks at a server, by inference, and at its repository; nothing is changed.

    Args:
        control: The server.
        root: Its repository; `None` to ask the server alone.

    Raises:
        ClientError: The server does not answer at all.
        RepositoryError: The repository cannot be read.
    """
    if root is not None and not root.is_dir():
        raise RepositoryError(f"there is no model repository at {root}", "check --repo")
    journal = None if root is None else Journal(root)
    answering, run, milliseconds, problem = _ask(control)
    record = journal.record(answering) if journal is not None and answering is not None else None
    if journal is not None and answering is not None and answering not in journal.versions():
        problem = f"version {answering} answers, which {root} does not hold: the server reads another repository"
    if journal is not None and record is not None and not problem:
        try:
            golden = journal.golden(record.version)
            proof = verify_ensembles(
                control, record.version, golden, FIRST_LOOK_SECONDS, journal.model_set_of(record.version)
            )
            milliseconds = proof.milliseconds
        except RolloutError as error:
            problem = error.message
    return Status(
        url=control.url,
        ready=control.is_ready(),
        answering=answering,
        healthy=not problem,
        problem=problem,
        milliseconds=milliseconds,
        since=record.activated if record else "",
        run=run,
        pending=journal.pending() if journal else None,
        versions=_versions(control, journal, answering),
    )


def _ask(control: ModelControl) -> tuple[int | None, str, float | None, str]:
    """Version and run that answer, after how many milliseconds, and what is wrong."""
    try:
        with TritonScorer(control.url) as scorer:
            spec, run = scorer.spec, scorer.run
        clip = np.zeros((1, spec.frames, spec.size, spec.size, 3), np.uint8)
        started = time.monotonic()
        answer = control.infer(ENSEMBLE_MODEL, (FRAMES, clip), PROBABILITIES, None)
    except ClientError as error:
        return None, "", None, error.message
    except InferenceServerException as error:
        return None, run, None, f"{ENSEMBLE_MODEL} fails: {without_source(error.message())}"
    return answer.version, run, 1000 * (time.monotonic() - started), ""


def _versions(control: ModelControl, journal: Journal | None, answering: int | None) -> tuple[VersionStatus, ...]:
    models = dict.fromkeys((*(journal.known_models if journal else PLAIN.models), *STREAM_MODELS))
    try:
        states = {model: control.states(model) for model in models}
    except AccessError:
        states = {model: {} for model in models}
    on_disk = set(journal.versions()) if journal else set()
    known = {
        version
        for of_model in states.values()
        for version, state in of_model.items()
        if journal is None or state not in {"UNLOADED", "UNAVAILABLE"}
    }
    if answering is not None:
        known.add(answering)
    return tuple(
        VersionStatus(
            version,
            version in on_disk if journal else None,
            {model: of_model[version] for model, of_model in states.items() if version in of_model},
            version == answering,
            journal.record(version) if journal else None,
        )
        for version in sorted(on_disk | known)
    )
