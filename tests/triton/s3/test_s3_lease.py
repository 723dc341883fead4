"""One deployment at a time: who holds a repository in a bucket, and when another may take it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from testing.waiting import eventually
from tests.triton.s3.conftest import Store
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.s3 import lease as module
from vdeploy.triton.s3.bucket import Bucket
from vdeploy.triton.s3.lease import LOCK, Lease

HOLD = """
import sys, time
from vdeploy.triton.s3.address import parse_address
from vdeploy.triton.s3.bucket import Bucket
from vdeploy.triton.s3.lease import Lease
with Lease(Bucket(parse_address(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


def foreign(renewal: int = 0) -> bytes:
    holder = {"process": 7, "machine": "another", "host": "elsewhere", "renewal": renewal}
    return json.dumps(holder).encode()


def test_one_after_the_other(store: Store) -> None:
    for _ in range(2):
        with Lease(store.bucket) as lease:
            lease.check()
            assert json.loads(store.get(LOCK))["process"] == os.getpid()
            with (
                pytest.raises(RepositoryError, match=rf"is being deployed to by process {os.getpid()} on ") as caught,
                Lease(store.bucket),
            ):
                pass
            assert "\n" not in str(caught.value)
        assert json.loads(store.get(LOCK)) == {}


def test_a_killed_process_of_this_machine_holds_nothing(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, store.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(RepositoryError, match=f"process {process.pid} on {platform.node()}"),
            Lease(store.bucket),
        ):
            pass
        process.kill()
    with Lease(store.bucket):
        pass


def test_another_machine_has_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(LOCK, foreign())
    with pytest.raises(RepositoryError, match=r"by process 7 on elsewhere; wait .* if it was killed, 60 s"):
        Lease(store.bucket).__enter__()
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.5)
    assert eventually(lambda: (found := store.bucket.read(LOCK)) and found.age_seconds > 0.5, 30)
    with Lease(store.bucket):
        pass


def test_a_lock_that_nobody_understands(store: Store) -> None:
    store.put(LOCK, b"\xff")
    with pytest.raises(RepositoryError, match="on an unknown machine"):
        Lease(store.bucket).__enter__()


def test_it_is_renewed_while_it_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWAL_SECONDS", 0.1)
    with Lease(store.bucket) as lease:
        assert eventually(lambda: json.loads(store.get(LOCK))["renewal"] > 1, 30)
        lease.check()


def test_what_was_taken_over_is_not_written_any_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lease(store.bucket) as lease:
        store.put(LOCK, foreign())
        monkeypatch.setattr(module, "RENEWAL_SECONDS", -1.0)
        with pytest.raises(RepositoryError, match="another deployment has taken over"):
            lease.check()
        monkeypatch.undo()
    assert json.loads(store.get(LOCK))["host"] == "elsewhere"


def test_a_first_try_that_was_repeated_is_ours(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_if = Bucket.put_if

    def repeated(self: Bucket, key: str, body: bytes, etag: str | None) -> str | None:
        put_if(self, key, body, etag)
        return put_if(self, key, body, etag)

    monkeypatch.setattr(Bucket, "put_if", repeated)
    with Lease(store.bucket) as lease:
        lease.check()


def test_a_server_without_conditions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def unconditional(self: Bucket, key: str, body: bytes, etag: str | None) -> str:
        store.put(key, body)
        return str(store.client.head_object(Bucket=store.name, Key=f"models/{key}")["ETag"])

    monkeypatch.setattr(Bucket, "put_if", unconditional)
    with pytest.raises(RepositoryError, match="takes no notice of If-None-Match"):
        Lease(store.bucket).__enter__()
