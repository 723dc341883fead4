"""What Triton loads the next time that it looks: the configurations of a repository, which name the versions."""

from __future__ import annotations

import shutil

from vdeploy.core.files import write_text
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.names import CONFIG
from vdeploy.triton.repository.version_policy import pin_ensemble, pin_versions, rename

__all__ = ["pin_ensembles", "pin_stage", "pin_stand_in", "stand_in", "unlist"]


def pin_stage(journal: Journal, model: str, version: int, versions: set[int]) -> None:
    """Has a stage, configured as a version wants it, load some versions."""
    recorded = (journal.configs(other) for other in versions if journal.record(other) is not None)
    others = [configs[model] for configs in recorded if model in configs]
    write_text(journal.root / model / CONFIG, pin_versions(journal.configs(version)[model], versions, others))


def stand_in(journal: Journal, model: str, version: int, working: tuple[str, int]) -> None:
    """Puts files that are known to load in the place of a version of a stage.

    Args:
        journal: The repository.
        model: The stage.
        version: Its version.
        working: A stage that works, perhaps of another name, and its version.
    """
    folder = journal.root / model / str(version)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(journal.root / working[0] / str(working[1]), folder)


def pin_stand_in(journal: Journal, model: str, version: int, working: tuple[str, int]) -> None:
    """Has a stage load what `stand_in` has put there, which takes the same arguments."""
    config = rename(journal.configs(working[1])[working[0]], model)
    write_text(journal.root / model / CONFIG, pin_versions(config, {version}))


def unlist(journal: Journal, model: str) -> None:
    """Has Triton load no version of a model; its files stay."""
    (journal.root / model / CONFIG).unlink(missing_ok=True)


def pin_ensembles(journal: Journal, version: int) -> None:
    """Has the ensembles call a version."""
    configs = journal.configs(version)
    for model in journal.model_set_of(version).ensembles:
        write_text(journal.root / model / CONFIG, pin_ensemble(configs[model], version))
