"""The location of a model repository: a folder that Triton reads, or a bucket with a local mirror.

Of a folder that several machines share (NFS 4, for example), this is taken for granted: that flock(2) holds on all of
them, as it does on Linux where locks are not switched off (`nolock`, `local_lock`); that a rename within a folder is
seen whole; and that what was written before it is seen with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vdeploy.core.errors import RepositoryError, UserError
from vdeploy.core.files import cache_dir
from vdeploy.core.progress import say
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL
from vdeploy.triton.repository.backends import known_backend, missing_file
from vdeploy.triton.repository.model_set import model_set_of
from vdeploy.triton.repository.version_policy import backend_of
from vdeploy.triton.s3.address import is_s3, parse_address
from vdeploy.triton.s3.bucket import Bucket
from vdeploy.triton.s3.lease import Lease
from vdeploy.triton.s3.mirror import Mirror

__all__ = ["Location", "open_location", "view_location"]


@dataclasses.dataclass(frozen=True)
class Location:
    """An open model repository.

    Attributes:
        root: The folder to work on.
        name: What messages call it.
        address: What Triton reads, where that is not the folder; else empty.
        publish: Has Triton see what was changed in the folder; does nothing where Triton reads that folder.
    """

    root: Path
    name: str
    address: str = ""
    publish: Callable[[], None] = lambda: None


@contextlib.contextmanager
def open_location(repository: str) -> Iterator[Location]:
    """Opens a repository to change it.

    A bucket is locked meanwhile, and changes are uploaded when the block ends, even by an error.

    Args:
        repository: A folder, or an address in a bucket, as in `vdeploy.triton.s3.address`.

    Raises:
        RepositoryError: It cannot be read or written, is incomplete, or another process is changing it.
        MissingExtraError: It is in a bucket, and boto3 is not installed.
    """
    if not is_s3(repository):
        yield Location(Path(repository), repository)
        return
    address = parse_address(repository)
    bucket = Bucket(address)
    with Lease(bucket) as lease:
        mirror = Mirror(bucket, _cached(str(address)))
        mirror.pull()
        journal = Journal(mirror.root)
        pending, active = journal.pending(), journal.active()
        if pending is None:
            _refuse_half(mirror, active, str(address))
        newest = max(journal.versions(), default=None)
        needed = {active, newest, pending.previous if pending else None} - {None}
        mirror.fetch({version for version in needed if version is not None})

        def publish() -> None:
            lease.check()
            mirror.push()

        try:
            yield Location(mirror.root, str(address), str(address), publish)
        except BaseException:
            try:
                publish()
            except UserError as error:
                say(f"repository: what was undone here is not in {address} yet: {error.message}")
            raise
        publish()


@contextlib.contextmanager
def view_location(repository: str) -> Iterator[Path]:
    """Opens a repository to look at what it says of its versions; files of models may be left out.

    Args:
        repository: As for `open_location`.

    Raises:
        RepositoryError: It is not there, or cannot be read.
        MissingExtraError: It is in a bucket, and boto3 is not installed.
    """
    if not is_s3(repository):
        yield Path(repository)
        return
    address = parse_address(repository)
    with tempfile.TemporaryDirectory(prefix="vdeploy-s3-") as folder:
        mirror = Mirror(Bucket(address), Path(folder) / "repository")
        mirror.pull()
        if not mirror.keys:
            raise RepositoryError(f"there is no model repository at {address}", "check --repo")
        yield mirror.root


def _cached(name: str) -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return cache_dir() / "triton" / "s3" / digest[:16] / "repository"


def _refuse_half(mirror: Mirror, version: int | None, name: str) -> None:
    """Looks for what a server needs that starts now; an upload by other means may have been broken off."""
    if f"{ENSEMBLE_MODEL}/{CONFIG}" not in mirror.keys:
        return
    missing = "a version that all models have" if version is None else ""
    for stage in model_set_of(mirror.root).stages if version is not None else ():
        missing = missing or _missing_of(mirror, stage, f"{stage}/{version}/")
    if missing:
        raise RepositoryError(f"{name} is only half there: {missing} is missing", "upload it again, or empty it")


def _missing_of(mirror: Mirror, stage: str, folder: str) -> str:
    config = f"{stage}/{CONFIG}"
    if config not in mirror.keys:
        return config
    backend = known_backend(backend_of((mirror.root / config).read_text(encoding="utf-8")))
    held = {key.removeprefix(folder) for key in mirror.keys if key.startswith(folder)}
    name = missing_file(stage, backend, held) if backend else ""
    return f"{folder}{name}" if name else ""
