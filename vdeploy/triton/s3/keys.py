"""Classify the objects of a repository by key, and order their changes.

An object changes in one step, but a repository is many. So what refers to others is written after them and removed
before them: a configuration after the version folders that it names. And the note of what is going on is written before
that, and removed last. Where a process is killed in between, what Triton reads is as before, or is noted as pending.
"""

from __future__ import annotations

from vdeploy.models.stage_names import is_stage
from vdeploy.triton.names import CONFIG, DEPLOYMENTS, ENSEMBLE_MODEL, STREAM_MODEL, STREAM_MODELS

__all__ = ["PLACEHOLDER", "is_config", "is_model", "is_ours", "removal_order", "version_of", "writing_order"]

PLACEHOLDER = ".keep"
"""An empty object in a version folder without files: in a bucket there is no folder but by what is in it."""

_RECORD = "record.json"
_PENDING = "pending.json"


def is_model(name: str) -> bool:
    """Return whether a folder of a repository is that of a model of ours."""
    return name == ENSEMBLE_MODEL or name in STREAM_MODELS or is_stage(name)


def is_ours(key: str) -> bool:
    """Whether an object belongs to one of our models; others, and hidden ones, are left alone."""
    model, *names = key.split("/")
    return bool(names) and is_model(model) and not any(name.startswith(".") for name in names if name != PLACEHOLDER)


def version_of(key: str) -> int | None:
    """The version in whose folder of a model an object is; `None` if it is in none."""
    model, version, *names = (*key.split("/"), "", "")[:3]
    return int(version) if is_model(model) and version.isdecimal() and names[0] else None


def is_config(key: str) -> bool:
    """Whether an object is the configuration of a model."""
    return key.endswith(f"/{CONFIG}")


def writing_order(key: str) -> tuple[int, str]:
    """Sorts what is written: notes of versions, the note of what is going on, models, labels, configurations."""
    name = key.rpartition("/")[2]
    if name == _PENDING:
        place = 2
    elif is_config(key):
        place = 6 if key.partition("/")[0] in {ENSEMBLE_MODEL, STREAM_MODEL} else 5
    elif version_of(key) is not None:
        place = 3
    elif key.startswith(f"{DEPLOYMENTS}/"):
        place = 1 if name == _RECORD else 0
    else:
        place = 4
    return place, key


def removal_order(key: str) -> tuple[int, str]:
    """Sorts what is removed: configurations, labels, models, notes of versions, the note of what is going on."""
    place, _ = writing_order(key)
    return (7 if place == 2 else 6 - place), key
