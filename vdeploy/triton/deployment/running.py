"""How the versions of a repository are run: by which backends, in which formats and with which options."""

from __future__ import annotations

import json

from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.names import ENSEMBLE_MODEL
from vdeploy.triton.repository.backends import Backend, known_backend
from vdeploy.triton.repository.kept_options import options_in
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.version_policy import backend_of, parameters_of

__all__ = ["running_backends", "running_formats", "running_options", "versions_to_keep"]


def running_backends(journal: Journal) -> tuple[Backend, Backend]:
    """What runs the extractor and the classifier now; the Python backend where nothing serves."""
    configs = {} if journal.active() is None else journal.current_configs()
    first, second = (backend_of(configs[stage]) if configs else "" for stage in journal.model_set.stages[:2])
    return known_backend(first) or "python", known_backend(second) or "python"


def running_formats(journal: Journal) -> dict[str, str]:
    """The format of each stage that serves now, by stage; empty where nothing serves or none is recorded."""
    parameters = {} if journal.active() is None else parameters_of(journal.current_configs()[ENSEMBLE_MODEL])
    return {str(stage): str(name) for stage, name in json.loads(parameters.get("formats", "{}")).items()}


def running_options(journal: Journal) -> ServingOptions:
    """The options with which the models are run now; the defaults where nothing serves.

    Raises:
        RepositoryError: They cannot be read.
    """
    return ServingOptions() if journal.active() is None else options_in(journal.current_configs())


def versions_to_keep(journal: Journal, version: int, before: int | None = None) -> set[int]:
    """The versions of a stage that stay loaded while one serves: itself, and those before, as many as asked for.

    Args:
        journal: The repository.
        version: The version that serves, recorded.
        before: The one that it takes over from; `None` for the one that it took over from.
    """
    own = journal.record(version)
    before = before if before is not None or own is None else own.previous
    kept, limit = {version}, options_in(journal.configs(version)).loaded_versions
    while before is not None and before in journal.versions() and before not in kept and len(kept) < limit:
        record = journal.record(before)
        if record is None:
            break
        kept.add(before)
        before = record.previous
    return kept
