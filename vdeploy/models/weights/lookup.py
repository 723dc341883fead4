"""Weights of any backbone: a published file by name, a path, or random values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from vdeploy.core.errors import WeightsError
from vdeploy.core.files import sha256_of
from vdeploy.models.weights.cache import OnProgress, fetch
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.published import WeightsFile

__all__ = ["lookup_weights"]


def lookup_weights(
    source: str,
    published: Mapping[str, WeightsFile],
    *,
    offline: bool = False,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Weights:
    """Finds weights, and fetches a published file that is not in the cache.

    Args:
        source: A name among the published files, ``"random"``, or a path.
        published: The published files by name.
        offline: Look into the cache only.
        seed: Seed of random weights; it only goes into their hash here.
        on_progress: Called with the bytes fetched so far and in all, if that is known, instead of a progress bar.

    Raises:
        WeightsError: They cannot be had: which sources were tried, or that the path is no file.
    """
    if source == "random":
        return Weights(source, None, hashlib.sha256(f"random:{seed}".encode()).hexdigest())
    if source in published:
        path = fetch(published[source], offline=offline, on_progress=on_progress)
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            reason = "are not a file" if path.exists() else "do not exist"
            known = ", ".join(repr(name) for name in (*published, "random"))
            raise WeightsError(f"the weights {path} {reason}", f"give {known} or the path of a file")
    return Weights(source, path, sha256_of(path))
