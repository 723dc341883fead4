"""Keras' cache of downloaded weights: looked up, checked and filled."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from vdeploy.core.errors import WeightsError
from vdeploy.core.files import atomic_write
from vdeploy.core.progress import say, track
from vdeploy.models.weights.published import WeightsFile
from vdeploy.models.weights.sources import PlaceError, Stream, places

__all__ = ["fetch", "keras_cache"]

_CHUNK = 1 << 20


def keras_cache() -> Path:
    """The folder in which Keras keeps downloaded weights: ``models`` in ``$KERAS_HOME`` or ``~/.keras``."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def fetch(file: WeightsFile) -> Path:
    """Finds a file of weights in Keras' cache, or fetches it into the cache from the first place that has it.

    A file in the cache with another hash is moved aside to ``*.corrupt``. Of several processes that want the same file
    at once, one fetches it and the others wait.

    Args:
        file: Which file.

    Returns:
        The file in the cache, its hash checked.

    Raises:
        WeightsError: No place has it, with what was tried and why it failed; or the cache cannot be written.
    """
    target = keras_cache() / file.name
    try:
        if _is_intact(target, file):
            return target
        failures = _fetch(file, target)
    except OSError as error:
        raise WeightsError(
            f"the weights {target} cannot be read or written ({error.strerror or error})",
            "free the disk, mend the permissions, or set KERAS_HOME to another folder",
        ) from error
    if failures is None:
        return target
    tried = "; ".join([f"not in {target.parent}", *failures])
    raise WeightsError(
        f"the weights {file.name} cannot be had: {tried}",
        f"pass --weights PATH, or put {file.name} into {target.parent}",
    )


def _fetch(file: WeightsFile, target: Path) -> list[str] | None:
    """Returns ``None`` once the file is in its place, else the reasons why it is not."""
    with _locked(target):
        if _is_intact(target, file):
            return None
        if target.exists():
            aside = target.with_name(f"{target.name}.corrupt")
            target.replace(aside)
            say(f"{target} is not the published file (its {file.digest[0].upper()} differs): moved to {aside.name}")
        failures = []
        for place, opened in places(file):
            reason = _fetch_from(opened, file, target)
            if reason is None:
                return None
            failures.append(f"{place}: {reason}")
        return failures


def _fetch_from(
    opened: AbstractContextManager[tuple[Stream, int | None]], file: WeightsFile, target: Path
) -> str | None:
    try:
        with opened as (stream, size), atomic_write(target) as out:
            _copy(stream, out, file, size)
    except PlaceError as error:
        return str(error)
    return None


def _copy(stream: Stream, out: IO[bytes], file: WeightsFile, size: int | None) -> None:
    algorithm, expected = file.digest
    digest = hashlib.new(algorithm, usedforsecurity=False)
    done = 0
    with track(f"Fetching {file.name}", size and size / 1e6, "MB") as bar:
        while chunk := _read(stream):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            bar.advance(len(chunk) / 1e6)
    if size is not None and done < size:
        raise PlaceError(f"broke off after {done} of {size} bytes")
    if digest.hexdigest() != expected:
        raise PlaceError(f"another file ({algorithm.upper()} {digest.hexdigest()}, not {expected})")


def _read(stream: Stream) -> bytes:
    try:
        return stream.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise PlaceError(f"broke off ({error})") from error


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_intact(path: Path, file: WeightsFile) -> bool:
    if not path.is_file():
        return False
    algorithm, expected = file.digest
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == expected
