"""A local S3 server in a process of its own, and what the commands need to find it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from testing.waiting import eventually
from vdeploy.triton.s3.address import parse_address
from vdeploy.triton.s3.bucket import Bucket
from vdeploy.triton.s3.mirror import Mirror
from vdeploy.triton.server.ports import free_ports


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`http://HOST:PORT` of the server."""
    for module in ("boto3", "moto", "flask_cors"):
        pytest.importorskip(module, reason="the local S3 server is not installed")
    (port,) = free_ports(1)
    url, log = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("s3") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            assert eventually(lambda: process.poll() is not None or _answers(url), 60), log.read_text()
            assert process.poll() is None, log.read_text()
            yield url
        finally:
            process.kill()


@dataclasses.dataclass(frozen=True)
class Store:
    """A bucket of one test.

    Attributes:
        endpoint: The server.
        name: The bucket.
        client: Of boto3, to look past the code under test.
    """

    endpoint: str
    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.endpoint}/{self.name}/models"

    @property
    def bucket(self) -> Bucket:
        return Bucket(parse_address(self.url))

    def mirror(self, folder: Path) -> Mirror:
        return Mirror(self.bucket, folder)

    def names(self) -> set[str]:
        found = self.client.list_objects_v2(Bucket=self.name)
        return {entry["Key"].removeprefix("models/") for entry in found.get("Contents", ())}

    def put(self, key: str, body: bytes = b"") -> None:
        self.client.put_object(Bucket=self.name, Key=f"models/{key}", Body=body)

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=f"models/{key}")["Body"].read())

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"models/{key}")

    @contextlib.contextmanager
    def checking_permissions(self) -> Iterator[None]:
        """Has the server look at credentials, which it does not otherwise."""
        url = f"{self.endpoint}/moto-api/reset-auth"
        _ask(url, b"0")
        try:
            yield
        finally:
            _ask(url, b"inf")


def client_of(service: str, endpoint: str) -> Any:
    """A client of boto3."""
    import boto3

    return boto3.client(service, endpoint_url=endpoint)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's AWS settings, and a cache of the test's own."""
    pytest.importorskip("boto3")
    set_up(monkeypatch, tmp_path / "cache")


@pytest.fixture
def store(endpoint: str, aws: None) -> Store:
    """An empty bucket."""
    return new_store(endpoint)


def set_up(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Sets credentials that the server accepts, and nothing else of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("VDEPLOY_CACHE", str(cache))


def new_store(endpoint: str) -> Store:
    """An empty bucket."""
    client = client_of("s3", endpoint)
    # No counter: this module is imported twice, by pytest as `conftest` and by tests under its full name.
    name = f"bucket-{uuid.uuid4()}"
    client.create_bucket(Bucket=name)
    return Store(endpoint, name, client)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        _ask(f"{url}/moto-api/")
        return True
    return False


def _ask(url: str, data: bytes | None = None) -> None:
    with urlopen(Request(url, data=data, headers={"Content-Type": "text/plain"})):  # noqa: S310  the server of these tests
        pass
