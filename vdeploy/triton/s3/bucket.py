"""Read and write the objects of a repository in a bucket, with one-line errors."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vdeploy.core.errors import RepositoryError
from vdeploy.core.files import atomic_write
from vdeploy.core.lazy_imports import require
from vdeploy.triton.s3.address import S3Address

__all__ = ["Bucket", "Content", "Found"]

CONNECT_SECONDS = 5
READ_SECONDS = 60
ATTEMPTS = 3

_FAILED_CONDITION = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthFailure"}
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class Found(NamedTuple):
    """An object in a bucket.

    Attributes:
        etag: Changes with its content.
        modified: When it was written, by the server's clock, to the second; that is how well Triton sees it.
        size: Bytes.
    """

    etag: str
    modified: int
    size: int


class Content(NamedTuple):
    """A small object that was read.

    Attributes:
        body: Its bytes.
        etag: Changes with its content.
        age_seconds: Time since it was written, by the server's clock.
    """

    body: bytes
    etag: str
    age_seconds: float


class Bucket:
    """The objects below one address; keys are relative to it.

    Args:
        address: Where the repository is.

    Raises:
        MissingExtraError: boto3 is not installed.
        RepositoryError: The endpoint or the profile that the environment names is none.
    """

    def __init__(self, address: S3Address) -> None:
        purpose = f"the model repository {address}"
        boto3 = require("boto3", extra="s3", purpose=purpose)
        config = require("botocore.config", extra="s3", purpose=purpose)
        self.address = address
        with self._one_line_errors():
            session = boto3.Session()
            self._client: Any = session.client(
                "s3",
                endpoint_url=address.endpoint or None,
                region_name=os.environ.get("AWS_REGION") or session.region_name or "us-east-1",
                config=config.Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                    s3={"addressing_style": "path" if address.endpoint else "auto"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    def list(self) -> dict[str, Found]:
        """All objects by key; keys that are no relative path of a file or folder are left out.

        Raises:
            RepositoryError: The bucket cannot be read.
        """
        prefix, found = self.address.prefix, {}
        with self._one_line_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.address.bucket, Prefix=prefix)
            for entry in (entry for page in pages for entry in page.get("Contents", ())):
                key = str(entry["Key"]).removeprefix(prefix)
                if not {"", ".", ".."} & set(key.removesuffix("/").split("/")):
                    found[key] = Found(entry["ETag"], _seconds(entry["LastModified"]), entry["Size"])
        return found

    def read(self, key: str) -> Content | None:
        """Reads a small object; `None` where there is none.

        Raises:
            RepositoryError: It cannot be read.
        """
        with self._one_line_errors():
            try:
                answer = self._client.get_object(**self._named(key))
            except self._client.exceptions.NoSuchKey:
                return None
            now = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            age = (now - answer["LastModified"]).total_seconds()
            return Content(answer["Body"].read(), answer["ETag"], age)

    def download(self, key: str, file: Path) -> None:
        """Writes an object into a file, atomically.

        Raises:
            RepositoryError: It cannot be read, or is not there any more.
            OSError: The file cannot be written.
        """
        with self._one_line_errors():
            body = self._client.get_object(**self._named(key))["Body"]
            with atomic_write(file) as target, contextlib.closing(body):
                shutil.copyfileobj(body, target)

    def upload(self, key: str, file: Path, *, later_than: int | None = None) -> Found:
        """Makes or replaces an object, atomically.

        Args:
            key: Its key.
            file: Its content.
            later_than: Second, by the server's clock, after which the object must seem to be written. Triton looks at
                whole seconds, and does not see the second of two changes in one. `None` where that does not matter.

        Raises:
            RepositoryError: It cannot be written.
            OSError: The file cannot be read.
        """
        with self._one_line_errors():
            while True:
                with file.open("rb") as body:
                    answer = self._client.put_object(**self._named(key), Body=body)
                if later_than is None:
                    return Found(answer["ETag"], 0, file.stat().st_size)
                modified = _seconds(self._client.head_object(**self._named(key))["LastModified"])
                if modified > later_than:
                    return Found(answer["ETag"], modified, file.stat().st_size)
                time.sleep(0.2)

    def put_if(self, key: str, body: bytes, etag: str | None) -> str | None:
        """Writes a small object if it is what it was.

        Args:
            key: Its key.
            body: Its content.
            etag: What it must be; `None` if there must be none.

        Returns:
            Its new etag, or `None` if it is not what it was.

        Raises:
            RepositoryError: It cannot be written.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._one_line_errors():
            try:
                return str(self._client.put_object(**self._named(key), Body=body, **condition)["ETag"])
            except self._client.exceptions.ClientError as error:
                if _code(error) in _FAILED_CONDITION:
                    return None
                raise

    def delete(self, key: str) -> None:
        """Removes an object; there may be none.

        Raises:
            RepositoryError: It cannot be removed.
        """
        with self._one_line_errors():
            self._client.delete_object(**self._named(key))

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self.address.bucket, "Key": f"{self.address.prefix}{key}"}

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        errors = require("botocore.exceptions", extra="s3", purpose=f"the model repository {self.address}")
        network = (errors.ConnectionError, errors.HTTPClientError)
        credentials = (errors.NoCredentialsError, errors.PartialCredentialsError, errors.CredentialRetrievalError)
        try:
            yield
        except credentials as error:
            raise RepositoryError(f"there are no credentials for {self.address} ({error})", _CREDENTIALS) from error
        except network as error:
            where = self.address.endpoint or "Amazon S3"
            raise RepositoryError(
                f"{self.address} cannot be reached: {where} does not answer ({error})",
                "look at the address, the network and AWS_ENDPOINT_URL",
            ) from error
        except errors.ClientError as error:
            raise self._refusal(error) from error
        except (errors.BotoCoreError, ValueError) as error:
            raise RepositoryError(f"{self.address} cannot be used ({error})", "look at the AWS settings") from error

    def _refusal(self, error: Any) -> RepositoryError:
        code, verb = _code(error), error.operation_name
        if code == "NoSuchBucket":
            return RepositoryError(
                f"there is no bucket {self.address.bucket} for {self.address}", "make it, or check --repo"
            )
        if code in _KEYS:
            return RepositoryError(f"the credentials for {self.address} are not accepted ({code})", _CREDENTIALS)
        if code in _DENIED:
            return RepositoryError(
                f"these credentials have no permission for {verb} on {self.address}",
                "allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there",
            )
        reason = error.response.get("Error", {}).get("Message") or "without a reason"
        return RepositoryError(f"{self.address} refuses {verb}: {code}: {reason}", "look at the server's settings")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _seconds(moment: dt.datetime) -> int:
    return math.floor(moment.timestamp())
