"""The models of a repository, with or without those that keep the windows of streams."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL, STAGES, STREAM_MODEL, WINDOW_MODEL
from vdeploy.triton.repository.options import StreamOptions
from vdeploy.triton.repository.version_policy import parameters_of

__all__ = ["PLAIN", "WITH_STREAMS", "ModelSet", "model_set_of", "streams_of"]


@dataclasses.dataclass(frozen=True)
class ModelSet:
    """The models of a repository.

    Attributes:
        stages: What computes.
        ensembles: What clients call, made of the stages; what calls the two ordinary stages comes first.
    """

    stages: tuple[str, ...]
    ensembles: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """All of them, an ensemble after what it is made of."""
        return (*self.stages, *self.ensembles)

    @property
    def keeps_streams(self) -> bool:
        """Whether the server keeps the windows of streams."""
        return STREAM_MODEL in self.ensembles


PLAIN = ModelSet(STAGES, (ENSEMBLE_MODEL,))
WITH_STREAMS = ModelSet((*STAGES, WINDOW_MODEL), (ENSEMBLE_MODEL, STREAM_MODEL))


def model_set_of(root: Path) -> ModelSet:
    """The models of a repository, by the configurations that it holds."""
    return WITH_STREAMS if (root / STREAM_MODEL / CONFIG).is_file() else PLAIN


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
