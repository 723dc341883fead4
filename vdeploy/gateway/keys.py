"""API keys: random, shown once, and stored as hashes.

A key has 256 random bits, so one round of SHA-256 protects it; slow hashes are for passwords that people remember.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from vdeploy.core.errors import GatewayError
from vdeploy.core.files import write_json

__all__ = ["Key", "KeyFile", "Role"]

Role = Literal["client", "admin"]
"""``admin`` may also change what the gateway serves."""

_PREFIX = "vdk_"
_SCHEMA_VERSION = "1.0"


@dataclasses.dataclass(frozen=True)
class Key:
    """A client of the gateway.

    Attributes:
        name: Name of the client.
        sha256: Hash of the key.
        role: What it allows.
        created: UTC time, ISO 8601.
    """

    name: str
    sha256: str
    role: Role
    created: str


class KeyFile:
    """A file of API keys. A running gateway notices changes.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def read(self) -> tuple[Key, ...]:
        """All keys, in the order of their creation.

        Raises:
            GatewayError: The file cannot be read or holds something else.
        """
        with self._lock:
            try:
                state = self.path.stat()
            except FileNotFoundError:
                return ()
            if self._seen != (state.st_mtime_ns, state.st_ino):
                self._keys = self._parse()
                self._seen = (state.st_mtime_ns, state.st_ino)
            return self._keys

    def find(self, key: str) -> Key | None:
        """Find the entry of a key; every hash is compared, in constant time."""
        digest = _digest(key)
        found = None
        for candidate in self.read():
            if hmac.compare_digest(candidate.sha256, digest):
                found = candidate
        return found

    def add(self, name: str, role: Role = "client") -> str:
        """Create a key.

        Args:
            name: Name of the client.
            role: What it allows.

        Returns:
            The key, which is not stored.

        Raises:
            GatewayError: The name is taken or not printable, or the file cannot be written.
        """
        if not name.strip() or not name.isprintable():
            raise GatewayError(f"{name!a} cannot name a key", "use letters, digits and punctuation")
        with self._changing() as keys:
            if any(key.name == name for key in keys):
                raise GatewayError(f"{self.path} has a key named {name} already", "revoke it first, or choose a name")
            secret = _PREFIX + secrets.token_urlsafe(32)
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            keys.append(Key(name, _digest(secret), role, now))
        return secret

    def revoke(self, name: str) -> None:
        """Delete a key.

        Raises:
            GatewayError: There is none of that name, or the file cannot be written.
        """
        with self._changing() as keys:
            kept = [key for key in keys if key.name != name]
            if len(kept) == len(keys):
                raise GatewayError(f"{self.path} has no key named {name}", "look with: vdeploy gateway keys list")
            keys[:] = kept

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = list(self.read())
                yield keys
                write_json(
                    self.path,
                    {"schema_version": _SCHEMA_VERSION, "keys": [dataclasses.asdict(key) for key in keys]},
                )
                self.path.chmod(0o600)
        except OSError as error:
            raise GatewayError(f"{self.path} cannot be written ({error.strerror})", "choose another --file") from error

    def _parse(self) -> tuple[Key, ...]:
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
            keys = tuple(Key(**key) for key in values["keys"])
            if not all(len(key.sha256) == 64 and key.role in get_args(Role) for key in keys):
                raise ValueError("a key without a hash or a role")
        except OSError as error:
            raise GatewayError(f"{self.path} cannot be read ({error.strerror})", "check its permissions") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise GatewayError(
                f"{self.path} is not a file of keys ({error})", "create one with: vdeploy gateway keys add NAME"
            ) from error
        return keys


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
