"""A local mirror of a repository in a bucket, used like a repository in a folder.

It is a cache. Files of version folders are fetched only where they are asked for; without them the folder is there, and
what it holds in the bucket stays.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vdeploy.core.files import write_json
from vdeploy.core.progress import track
from vdeploy.triton.names import DEPLOYMENTS
from vdeploy.triton.repository.write_errors import one_line_errors
from vdeploy.triton.s3.bucket import Bucket, Found
from vdeploy.triton.s3.keys import PLACEHOLDER, is_config, is_model, is_ours, removal_order, version_of, writing_order

__all__ = ["Mirror"]

_FOLDER_LOCK = f"{DEPLOYMENTS}/lock"
"""What keeps apart the deployments to a folder: a file of this machine."""


class _Known(NamedTuple):
    """A file that is what an object was: `etag` is the object's, the rest the file's."""

    etag: str
    size: int
    modified_ns: int


class Mirror:
    """The folder of one repository in a bucket.

    Args:
        bucket: The repository.
        root: The folder; only mirrors of the same repository may use it, one at a time.
    """

    def __init__(self, bucket: Bucket, root: Path) -> None:
        self.root = root
        self._bucket = bucket
        self._index = root.with_name(f"{root.name}.json")
        self._known = _read_index(self._index)
        self._remote: dict[str, Found] = {}

    @property
    def keys(self) -> Collection[str]:
        """What is in the bucket, as far as it is known."""
        return self._remote.keys()

    def pull(self) -> None:
        """Makes the folder what is in the bucket, without the files of versions that are not here yet.

        Raises:
            RepositoryError: The bucket cannot be read, or the folder cannot be written.
        """
        self._remote = {key: found for key, found in self._bucket.list().items() if is_ours(key)}
        with one_line_errors(self.root):
            self._clear()
            for key in self._remote:
                (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            self._fetch(key for key in self._remote if version_of(key) is None)

    def fetch(self, versions: Collection[int]) -> None:
        """Brings the files of some versions.

        Raises:
            RepositoryError: They cannot be read, or written here.
        """
        with one_line_errors(self.root):
            self._fetch(key for key in self._remote if version_of(key) in versions)

    def push(self) -> None:
        """Makes the bucket what is in the folder, in a safe order.

        Raises:
            RepositoryError: The bucket cannot be written.
        """
        with one_line_errors(self.root):
            local = self._local()
            changed = sorted((key for key in local if not self._is_current(key)), key=writing_order)
            sizes = {key: _size(self.root / key) for key in changed}
            with _progress("upload", sizes) as written:
                for key in changed:
                    self._upload(key)
                    written(key)
            for key in sorted((key for key in self._remote if self._is_gone(key, local)), key=removal_order):
                self._bucket.delete(key)
                del self._remote[key]
                self._known.pop(key, None)
            self._save()

    def _upload(self, key: str) -> None:
        file = self.root / key
        if file.name == PLACEHOLDER:
            self._remote[key] = self._bucket.upload(key, Path(os.devnull))
            return
        before, stamp = self._remote.get(key), _stamp(file)
        later_than = None if not is_config(key) else before.modified if before else 0
        self._remote[key] = self._bucket.upload(key, file, later_than=later_than)
        self._known[key] = _Known(self._remote[key].etag, *stamp)

    def _fetch(self, keys: Iterable[str]) -> None:
        wanted = [key for key in keys if not key.endswith(("/", PLACEHOLDER)) and not self._is_current(key)]
        with _progress("download", {key: self._remote[key].size for key in wanted}) as fetched:
            for key in wanted:
                file = self.root / key
                self._bucket.download(key, file)
                self._known[key] = _Known(self._remote[key].etag, *_stamp(file))
                fetched(key)
        if wanted:
            self._save()

    def _clear(self) -> None:
        """Removes what is not in the bucket, and models that are not as they are there; notes are replaced in place."""
        self.root.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.root.rglob("*"), reverse=True):
            key = path.relative_to(self.root).as_posix()
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.rmdir()
            elif key != _FOLDER_LOCK and not self._is_current(key) and (version_of(key) or key not in self._remote):
                path.unlink()

    def _local(self) -> set[str]:
        """Keys of what is in the folder, but for its own lock and what is hidden, as unfinished files are."""
        files = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        found = {key for key in files if key != _FOLDER_LOCK and is_ours(key)}
        folders = (folder for folder in self.root.glob("*/[0-9]*") if is_model(folder.parent.name))
        for folder in folders:
            prefix = f"{folder.relative_to(self.root).as_posix()}/"
            if not any(folder.iterdir()) and not any(key.startswith(prefix) for key in self._remote):
                found.add(f"{prefix}{PLACEHOLDER}")
        return found

    def _is_current(self, key: str) -> bool:
        known, found, file = self._known.get(key), self._remote.get(key), self.root / key
        if known is None or found is None or not file.is_file():
            return False
        return known == (found.etag, *_stamp(file))

    def _is_gone(self, key: str, local: Collection[str]) -> bool:
        if key in local:
            return False
        return version_of(key) is None or not (self.root / key).parent.is_dir()

    def _save(self) -> None:
        write_json(self._index, {key: list(known) for key, known in sorted(self._known.items())})


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


@contextlib.contextmanager
def _progress(verb: str, sizes: Mapping[str, int]) -> Iterator[Callable[[str], None]]:
    """Counts kilobytes where models are among the files, for the others take no time."""
    if not any(version_of(key) for key in sizes):
        yield lambda _: None
        return
    kilobytes = {key: math.ceil(size / 1000) for key, size in sizes.items()}
    with track(f"{verb} of the repository", sum(kilobytes.values()), "kB") as step:
        yield lambda key: step.advance(kilobytes[key], key)


def _read_index(file: Path) -> dict[str, _Known]:
    try:
        return {key: _Known(*known) for key, known in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
