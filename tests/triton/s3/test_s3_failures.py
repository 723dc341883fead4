"""What can be wrong with a repository in a bucket: each is one clear line, and nothing has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.triton.s3.conftest import Store, client_of
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import MissingExtraError, RepositoryError
from vdeploy.triton.deployment.location import open_location, view_location
from vdeploy.triton.names import CLASSIFIER_MODEL, ENSEMBLE_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.s3.lease import LOCK
from vdeploy.triton.server.ports import free_ports


def failure(repository: str, *, look: bool = False) -> str:
    with (
        pytest.raises(RepositoryError) as caught,
        view_location(repository) if look else open_location(repository),  # type: ignore[attr-defined]
    ):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fill(store: Store, bundle: Bundle, then: Callable[[], None] = lambda: None) -> None:
    with open_location(store.url) as place:
        write_repository(bundle, place.root)
        then()


def fail() -> None:
    raise KeyError


@pytest.mark.parametrize("look", [False, True])
class TestNoAccess:
    def test_no_credentials(self, store: Store, monkeypatch: pytest.MonkeyPatch, look: bool) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        told = failure(store.url, look=look)
        assert told.startswith(f"there are no credentials for {store.url} ")
        assert told.endswith("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")

    def test_half_of_the_credentials(self, store: Store, monkeypatch: pytest.MonkeyPatch, look: bool) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert f"there are no credentials for {store.url}" in failure(store.url, look=look)

    def test_a_profile_that_is_not_there(self, store: Store, monkeypatch: pytest.MonkeyPatch, look: bool) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        assert "cannot be used (The config profile (nobody) could not be found)" in failure(store.url, look=look)

    def test_no_such_bucket(self, store: Store, look: bool) -> None:
        told = failure(f"s3://{store.endpoint}/elsewhere/models", look=look)
        assert told.startswith("there is no bucket elsewhere for s3://")

    def test_keys_that_are_not_accepted(self, store: Store, look: bool) -> None:
        with store.checking_permissions():
            assert "are not accepted (InvalidAccessKeyId); set AWS_ACCESS_KEY_ID" in failure(store.url, look=look)

    def test_no_permission(self, store: Store, monkeypatch: pytest.MonkeyPatch, look: bool) -> None:
        iam = client_of("iam", store.endpoint)
        user = f"user-of-{store.name}-{look}"
        iam.create_user(UserName=user)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        with store.checking_permissions():
            told = failure(store.url, look=look)
        verb = "ListObjectsV2" if look else "GetObject"
        assert told.startswith(f"these credentials have no permission for {verb} on {store.url}; allow s3:ListBucket")

    @pytest.mark.usefixtures("aws")
    def test_no_server(self, look: bool) -> None:
        (port,) = free_ports(1)
        told = failure(f"s3://http://127.0.0.1:{port}/models", look=look)
        assert f"cannot be reached: http://127.0.0.1:{port} does not answer" in told

    @pytest.mark.usefixtures("aws")
    def test_an_endpoint_that_is_none(self, monkeypatch: pytest.MonkeyPatch, look: bool) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
        assert "cannot be used (Invalid endpoint: nonsense); look at the AWS settings" in failure("s3://abc", look=look)

    def test_no_boto3(self, monkeypatch: pytest.MonkeyPatch, look: bool) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)
        with (
            pytest.raises(MissingExtraError, match=r"s3://abc needs the Python package boto3; .*vdeploy\[s3\]"),
            view_location("s3://abc") if look else open_location("s3://abc"),  # type: ignore[attr-defined]
        ):
            pass


def test_nothing_there_to_look_at(store: Store) -> None:
    assert f"there is no model repository at {store.url}; check --repo" in failure(store.url, look=True)
    assert store.names() == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing",
    [f"{EXTRACTOR_MODEL}/1/model.onnx", f"{CLASSIFIER_MODEL}/1/model.py", f"{CLASSIFIER_MODEL}/config.pbtxt"],
)
def test_a_repository_that_is_half_there(store: Store, bundle: Bundle, missing: str) -> None:
    fill(store, bundle)
    store.delete(missing)
    before = store.names()
    assert f"{store.url} is only half there: {missing} is missing; upload it again" in failure(store.url)
    assert store.names() == before


def test_a_model_that_is_not_there_at_all(store: Store, bundle: Bundle) -> None:
    fill(store, bundle)
    store.delete(f"{ENSEMBLE_MODEL}/1/.keep")
    assert "half there: a version that all models have is missing" in failure(store.url)


def test_a_full_cache(store: Store, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fill(store, bundle)
    (tmp_path / "file").touch()
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "file"))
    assert f"{tmp_path}/file" in failure(store.url)
    assert json.loads(store.get(LOCK)) == {}


def test_what_fails_within_is_told_and_what_was_done_is_kept(store: Store, bundle: Bundle) -> None:
    with pytest.raises(KeyError):
        fill(store, bundle, fail)
    assert f"{ENSEMBLE_MODEL}/config.pbtxt" in store.names()


def test_where_the_bucket_goes_away_within(store: Store, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def lose_it() -> None:
        for name in store.names():
            store.delete(name)
        store.client.delete_bucket(Bucket=store.name)
        fail()

    with pytest.raises(KeyError):
        fill(store, bundle, lose_it)
    assert f"repository: what was undone here is not in {store.url} yet: there is no bucket" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.slow
def test_of_the_command(store: Store, bundle: Bundle) -> None:
    arguments = ["deploy", str(bundle.root), "--repo", f"s3://{store.endpoint}/elsewhere", "--backend", "python"]
    done = subprocess.run([sys.executable, "-m", "vdeploy", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    told = f"error: there is no bucket elsewhere for s3://{store.endpoint}/elsewhere; make it, or check --repo\n"
    assert done.stderr == told
