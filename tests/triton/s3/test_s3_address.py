"""Addresses of repositories in buckets: those that Triton takes, and no others."""

from __future__ import annotations

import pytest

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.s3.address import is_s3, parse_address
from vdeploy.triton.s3.keys import is_ours, removal_order, version_of, writing_order


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)


@pytest.mark.parametrize(
    ("text", "parts", "told"),
    [
        ("s3://models", ("models", "", ""), "s3://models"),
        ("s3://models/a/b/", ("models", "a/b/", ""), "s3://models/a/b"),
        (
            "s3://http://10.0.0.1:9000/models/a",
            ("models", "a/", "http://10.0.0.1:9000"),
            "s3://http://10.0.0.1:9000/models/a",
        ),
        ("s3://https://store/models", ("models", "", "https://store:443"), "s3://https://store:443/models"),
    ],
)
def test_what_is_read_is_what_triton_is_told(text: str, parts: tuple[str, str, str], told: str) -> None:
    address = parse_address(text)
    assert (address.bucket, address.prefix, address.endpoint) == parts
    assert str(address) == told


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://store:9000/")
    assert str(parse_address("s3://models/a")) == "s3://http://store:9000/models/a"
    assert parse_address("s3://http://other:1/models").endpoint == "http://other:1"


@pytest.mark.parametrize("text", ["s3://", "s3:///a", "s3://store:9000/models", "s3://models/a b", "s3://Models"])
def test_what_triton_would_not_take(text: str) -> None:
    with pytest.raises(RepositoryError, match="is no address of a model repository that Triton takes; write s3://"):
        parse_address(text)


def test_folders_are_none() -> None:
    assert not is_s3("triton_repo")
    assert is_s3("s3://models")


def test_what_refers_to_others_comes_after_them_and_goes_before_them() -> None:
    notes = ["violence_detector/deployments/2/golden.npz", "violence_detector/deployments/2/record.json"]
    pending = "violence_detector/deployments/pending.json"
    models = ["lstm_classifier/2/model.onnx", "vgg19_features/2/model.onnx"]
    configs = ["lstm_classifier/config.pbtxt", "vgg19_features/config.pbtxt", "violence_detector/config.pbtxt"]
    order = [*notes, pending, *models, "lstm_classifier/labels.txt", *configs]
    assert sorted({*order}, key=writing_order) == order
    removed = sorted(order, key=removal_order)
    assert removed[0] == configs[-1]
    assert removed[-1] == pending
    assert removed.index(models[-1]) < removed.index(notes[1]) < removed.index(notes[0])


@pytest.mark.parametrize(
    ("key", "ours", "version"),
    [
        ("vgg19_features/12/model.onnx", True, 12),
        ("violence_detector/1/.keep", True, 1),
        ("violence_detector/1/", True, None),
        ("vgg19_features/config.pbtxt", True, None),
        ("violence_detector/deployments/1/record.json", True, None),
        ("vgg19_features/.model.tmp/x", False, None),
        ("other/1/model.onnx", False, None),
        ("vdeploy.lock", False, None),
    ],
)
def test_whose_an_object_is(key: str, ours: bool, version: int | None) -> None:
    assert is_ours(key) is ours
    assert version_of(key) == version
