"""The models of a repository, with or without those that keep the windows of streams."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from vdeploy.core.errors import RepositoryError
from vdeploy.models.stage_names import SUFFIXES
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL, FEATURES, FRAMES, STAGES, STREAM_MODEL, WINDOW_MODEL
from vdeploy.triton.repository.options import StreamOptions
from vdeploy.triton.repository.version_policy import parameters_of

__all__ = ["PLAIN", "ModelSet", "model_set_for", "model_set_of", "stages_called_by", "stages_of", "streams_of"]


@dataclasses.dataclass(frozen=True)
class ModelSet:
    """The models of a repository.

    Attributes:
        stages: What computes.
        ensembles: What clients call, made of the stages; what calls the two ordinary stages comes first.
        window_input: What the keeper of windows takes: features, or frames where it computes a causal extractor.
    """

    stages: tuple[str, ...]
    ensembles: tuple[str, ...]
    window_input: str = FEATURES

    @property
    def models(self) -> tuple[str, ...]:
        """All of them, an ensemble after what it is made of."""
        return (*self.stages, *self.ensembles)

    @property
    def keeps_streams(self) -> bool:
        """Whether the server keeps the windows of streams."""
        return STREAM_MODEL in self.ensembles


PLAIN = ModelSet(STAGES, (ENSEMBLE_MODEL,))


def model_set_for(stages: tuple[str, ...], *, streams: bool, window: str = "") -> ModelSet:
    """Return the models of a repository.

    Args:
        stages: The two ordinary stages.
        streams: Whether the server keeps the windows of streams.
        window: Configuration of the keeper of windows, if there is one.
    """
    if not streams:
        return ModelSet(stages, (ENSEMBLE_MODEL,))
    taken = FRAMES if f'name: "{FRAMES}"' in window else FEATURES
    return ModelSet((*stages, WINDOW_MODEL), (ENSEMBLE_MODEL, STREAM_MODEL), taken)


def model_set_of(root: Path) -> ModelSet:
    """Return the models of a repository, by the configurations that it holds."""
    streams, window = (root / STREAM_MODEL / CONFIG).is_file(), root / WINDOW_MODEL / CONFIG
    try:
        text = window.read_text(encoding="utf-8") if streams else ""
    except (OSError, UnicodeDecodeError):
        text = ""  # what reads it in earnest tells of it
    return model_set_for(stages_of(root), streams=streams, window=text)


def stages_of(root: Path) -> tuple[str, ...]:
    """Return the models of the two stages of a repository.

    The ensemble's configuration names them. Before it is written, the folders do; of an empty repository, the stages
    are those of the default recipe.
    """
    try:
        text = (root / ENSEMBLE_MODEL / CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        found = tuple(_stage_folders(root))
    else:
        found = stages_called_by(text)
    return found if len(found) == len(STAGES) else STAGES


def stages_called_by(ensemble: str) -> tuple[str, ...]:
    """Return the models that an ensemble's configuration names, in the order of its steps."""
    return tuple(re.findall(r'model_name: "([^"]+)"', ensemble))


def _stage_folders(root: Path) -> Iterator[str]:
    for suffix in SUFFIXES.values():
        yield from (folder.name for folder in root.glob(f"*{suffix}") if folder.is_dir())


def streams_of(root: Path) -> StreamOptions | None:
    """How a repository keeps streams; `None` where it keeps none.

    Raises:
        RepositoryError: Its configuration cannot be read.
    """
    if not model_set_of(root).keeps_streams:
        return None
    file = root / WINDOW_MODEL / CONFIG
    try:
        parameters = parameters_of(file.read_text(encoding="utf-8"))
        return StreamOptions(int(parameters["max_streams"]), float(parameters["idle_seconds"]))
    except (OSError, KeyError, ValueError) as error:
        raise RepositoryError(f"{file} cannot be read ({error!r})", "say how many streams: --streams N") from error
