"""Weights by name or by path."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from vdeploy.core.errors import WeightsError
from vdeploy.core.files import sha256_of
from vdeploy.models.weights.cache import fetch
from vdeploy.models.weights.fine_tuned import FINE_TUNED_SUFFIX
from vdeploy.models.weights.published import WeightsFile

__all__ = ["Weights", "find_weights"]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of a backbone.

    Attributes:
        source: The name of published weights, ``"random"``, or the path as it was given.
        path: The file, ``None`` for random weights.
        sha256: SHA-256 of the file; of ``random:0`` for random weights.
    """

    source: str
    path: Path | None
    sha256: str

    @property
    def fine_tuned(self) -> bool:
        """Whether they are what a fine-tuning has left; see `vdeploy.models.weights.fine_tuned`."""
        return self.path is not None and self.path.suffix == FINE_TUNED_SUFFIX


def find_weights(
    source: str, published: Mapping[str, WeightsFile], check: Callable[[Path], None] | None = None
) -> Weights:
    """Find weights, and fetch published ones that are not in the cache.

    Args:
        source: The name of published weights, ``"random"``, or the path of a file, fine-tuned weights among them.
        published: Published files by name.
        check: Raises `WeightsError` for a file, given by path, that cannot hold such weights; that it is a file is
            always checked.

    Raises:
        WeightsError: They cannot be had, or are not what they claim to be.
    """
    if source == "random":
        return Weights(source, None, hashlib.sha256(b"random:0").hexdigest())
    if source in published:
        path = fetch(published[source])
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            reason = "are not a file" if path.exists() else "do not exist"
            known = ", ".join(repr(name) for name in (*published, "random"))
            raise WeightsError(f"the weights {path} {reason}", f"give {known} or the path of a file")
        if check is not None and path.suffix != FINE_TUNED_SUFFIX:
            check(path)
    return Weights(source, path, sha256_of(path))
