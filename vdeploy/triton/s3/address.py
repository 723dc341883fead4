"""The address of a repository in a bucket: `s3://bucket/prefix`, or with Triton's `s3://http://host:port/bucket/prefix`."""

from __future__ import annotations

import dataclasses
import os
import re
from urllib.parse import urlsplit

from vdeploy.core.errors import RepositoryError

__all__ = ["S3Address", "is_s3", "parse_address"]

SCHEME = "s3://"

_PORTS = {"http": 80, "https": 443}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_ADDRESS = re.compile(
    r"s3://(?P<endpoint>https?://[0-9a-zA-Z.-]+(?::\d+)?/)?(?P<bucket>[0-9a-z][0-9a-z.-]{1,62})"
    r"(?P<prefix>(?:/[0-9a-zA-Z._-]+)*)/?"
)
"""What Triton's own expression takes (`src/filesystem/implementations/s3.h` in triton-inference-server/core)."""


@dataclasses.dataclass(frozen=True)
class S3Address:
    """A model repository in a bucket.

    Attributes:
        bucket: Name of the bucket.
        prefix: What the keys of its objects begin with; empty, or ends with a slash.
        endpoint: `http://host:port` of a server other than Amazon's, else empty.
    """

    bucket: str
    prefix: str
    endpoint: str

    def __str__(self) -> str:
        """As Triton takes it for `--model-repository`; with the port, without which it takes the host for a bucket."""
        return f"{SCHEME}{self.endpoint}{'/' if self.endpoint else ''}{self.bucket}/{self.prefix}".rstrip("/")


def is_s3(repository: str) -> bool:
    """Whether a repository is an address in a bucket, rather than a folder."""
    return repository.startswith(SCHEME)


def parse_address(text: str) -> S3Address:
    """Reads an address; where it names no server, `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` may.

    Raises:
        RepositoryError: It is none that Triton would take.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise RepositoryError(
            f"{text} is no address of a model repository that Triton takes",
            "write s3://BUCKET/PREFIX or s3://http://HOST:PORT/BUCKET/PREFIX, in letters, digits, dots and dashes",
        )
    endpoint = found["endpoint"] or next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
    prefix = found["prefix"].strip("/")
    return S3Address(found["bucket"], f"{prefix}/" if prefix else "", _with_port(endpoint))


def _with_port(endpoint: str) -> str:
    parts = urlsplit(endpoint.rstrip("/"))
    if not endpoint or parts.scheme not in _PORTS or not parts.hostname:
        return endpoint
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
