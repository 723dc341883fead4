"""A lock on a repository in a bucket: an object that is written under a condition.

The object is written under a condition: that there is none, or that it is still the one that was read. Its holder
writes it again every few seconds. Where it has not been for a minute, by the server's clock, its holder is taken for
dead, and at once where it was a process of this machine that is gone. The object stays when the lock is released.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ConfigDict, ValidationError

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.s3.bucket import Bucket, Content

__all__ = ["LOCK", "Lease"]

LOCK = "vdeploy.lock"
"""Key of the object; a file beside the models, which Triton takes no notice of."""

LEASE_SECONDS = 60.0
RENEWAL_SECONDS = 15.0


class _Holder(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    process: int = 0
    machine: str = ""
    host: str = ""
    renewal: int = 0

    def is_gone(self) -> bool:
        """Whether the lock was released, or its holder was a process of this machine that has ended."""
        return not self.process or (self.machine == _machine() and not Path("/proc", str(self.process)).exists())


class Lease:
    """Keeps every other deployment out of a repository while a `with` block lasts.

    Args:
        bucket: The repository.

    Raises:
        RepositoryError: On entering: another deployment is going on, or the server cannot keep two apart.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._etag = ""
        self._renewals = 0
        self._renewed = 0.0
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="vdeploy-lease", daemon=True)

    def __enter__(self) -> Lease:
        found = self._bucket.read(LOCK)
        if found is not None and not _may_be_taken(found):
            raise self._held(found)
        etag = self._write(found.etag if found else None)
        if etag is None:
            raise self._held(self._bucket.read(LOCK))
        if self._bucket.put_if(LOCK, b"{}", None) is not None:
            raise RepositoryError(
                f"the server of {self._bucket.address} takes no notice of If-None-Match, and cannot keep two "
                "deployments apart",
                "take a server with conditional writes",
            )
        self._etag, self._renewed = etag, time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self._bucket.put_if(LOCK, b"{}\n", self._etag)
        except RepositoryError:
            if kind is None:
                raise

    def check(self) -> None:
        """Makes sure that it is still held, before something is written under it.

        Raises:
            RepositoryError: It is not, because this process was stopped or cut off for too long.
        """
        if time.monotonic() - self._renewed > RENEWAL_SECONDS and not self._renew():
            raise RepositoryError(
                f"another deployment has taken over {self._bucket.address}, as this one was silent for too long",
                "look at vdeploy status, then try again",
            )

    def _keep(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            try:
                self._renew()
            except RepositoryError:
                continue  # it is tried again, and `check` says what is wrong

    def _renew(self) -> bool:
        with self._writing:
            self._renewals += 1
            etag = self._write(self._etag)
            if etag is not None:
                self._etag, self._renewed = etag, time.monotonic()
            return etag is not None

    def _write(self, etag: str | None) -> str | None:
        """Writes the object if it is what it was; what a repeated request finds may be its own first try."""
        body = self._body()
        written = self._bucket.put_if(LOCK, body, etag)
        if written is None and (found := self._bucket.read(LOCK)) is not None and found.body == body:
            return found.etag
        return written

    def _body(self) -> bytes:
        holder = _Holder(process=os.getpid(), machine=_machine(), host=platform.node(), renewal=self._renewals)
        return (json.dumps(holder.model_dump()) + "\n").encode()

    def _held(self, found: Content | None) -> RepositoryError:
        holder = _holder(found)
        by = f" by process {holder.process} on {holder.host}" if holder.process else ""
        return RepositoryError(
            f"{self._bucket.address} is being deployed to{by}",
            f"wait until that is done; if it was killed, {LEASE_SECONDS:g} s",
        )


def _may_be_taken(found: Content) -> bool:
    return found.age_seconds > LEASE_SECONDS or _holder(found).is_gone()


def _holder(found: Content | None) -> _Holder:
    try:
        return _Holder.model_validate_json(found.body if found else b"{}")
    except ValidationError:
        return _Holder(process=-1, host="an unknown machine")


def _machine() -> str:
    """What this process shares with those whose ids mean the same to it: the machine, its start, its container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').stat().st_ino}"
