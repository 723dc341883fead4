"""A folder and a bucket that are the same, whenever one of the two was left half-way."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.triton.s3.conftest import Store
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.names import CLASSIFIER_MODEL, CONFIG, ENSEMBLE_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.repository.model_set import PLAIN
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.s3.bucket import Bucket
from vdeploy.triton.s3.mirror import Mirror

CONFIGS = {f"{model}/{CONFIG}" for model in PLAIN.models}


@pytest.fixture
def written(store: Store, bundle: Bundle, tmp_path: Path) -> Mirror:
    """A mirror whose bucket holds version 1."""
    mirror = store.mirror(tmp_path / "mirror")
    mirror.pull()
    write_repository(bundle, mirror.root)
    mirror.push()
    return mirror


def files(root: Path) -> dict[str, bytes | None]:
    """Content of files and `None` for folders, by relative path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def test_there_and_back(store: Store, written: Mirror, tmp_path: Path) -> None:
    other = store.mirror(tmp_path / "other")
    other.pull()
    assert Journal(other.root).versions() == [1]
    assert not list(other.root.rglob("model.onnx"))
    other.fetch({1})
    assert files(other.root) == files(written.root)
    assert f"{ENSEMBLE_MODEL}/1/.keep" in store.names()
    assert Journal(other.root).active() == 1


def test_models_that_were_not_fetched_stay(store: Store, written: Mirror, tmp_path: Path) -> None:
    before = store.names()
    other = store.mirror(tmp_path / "other")
    other.pull()
    other.push()
    assert store.names() == before
    shutil.rmtree(other.root / EXTRACTOR_MODEL / "1")
    other.push()
    assert before - store.names() == {key for key in before if key.startswith(f"{EXTRACTOR_MODEL}/1/")}


def test_only_what_has_changed_is_moved(store: Store, written: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    for name in ("upload", "download"):
        original = getattr(Bucket, name)
        monkeypatch.setattr(
            Bucket,
            name,
            lambda self, key, file, __=original, **rest: (moved.append(key), __(self, key, file, **rest))[1],
        )
    again = store.mirror(written.root)
    again.pull()
    again.fetch({1})
    again.push()
    assert moved == []
    (written.root / CLASSIFIER_MODEL / "labels.txt").write_text("calm\nfight\n")
    again.push()
    assert moved == [f"{CLASSIFIER_MODEL}/labels.txt"]


def test_others_are_left_alone(store: Store, written: Mirror) -> None:
    store.put("other/1/model.onnx", b"x" * 10)
    store.put(f"{EXTRACTOR_MODEL}/.hidden", b"x")
    store.put("../outside", b"x")
    again = store.mirror(written.root)
    again.pull()
    assert not (written.root / "other").exists()
    again.push()
    assert {"other/1/model.onnx", f"{EXTRACTOR_MODEL}/.hidden"} <= store.names()


def test_what_was_changed_here_but_never_there_is_forgotten(store: Store, written: Mirror) -> None:
    before = files(written.root)
    (written.root / EXTRACTOR_MODEL / CONFIG).write_text("never uploaded")
    model = written.root / EXTRACTOR_MODEL / "1" / "model.onnx"
    model.unlink()  # it is a second name of the bundle's file
    model.write_bytes(b"never uploaded")
    (written.root / EXTRACTOR_MODEL / "2").mkdir()
    again = store.mirror(written.root)
    again.pull()
    again.fetch({1})
    assert files(written.root) == before


def test_two_changes_of_a_configuration_are_never_in_one_second(store: Store, written: Mirror) -> None:
    key, seen = f"models/{ENSEMBLE_MODEL}/{CONFIG}", []
    started = time.monotonic()
    for number in range(2):
        (written.root / ENSEMBLE_MODEL / CONFIG).write_text(f"# {number}\n")
        written.push()
        seen.append(int(store.client.head_object(Bucket=store.name, Key=key)["LastModified"].timestamp()))
    assert sorted(set(seen)) == seen
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("cut", [0, 3, 7, 9])
def test_cut_off_while_uploading(
    store: Store, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """Whatever was not uploaded any more, a configuration is there only with all that it is about."""
    mirror = store.mirror(tmp_path / "mirror")
    mirror.pull()
    write_repository(bundle, mirror.root)
    Journal(mirror.root).begin(1, None)
    left, upload = [cut], Bucket.upload

    def cut_off(self: Bucket, key: str, file: Path, **rest: int | None) -> object:
        if not left[0]:
            raise RepositoryError("cut off")
        left[0] -= 1
        return upload(self, key, file, **rest)

    monkeypatch.setattr(Bucket, "upload", cut_off)
    try:
        mirror.push()
    except RepositoryError:
        everything = {path for path, content in files(mirror.root).items() if content is not None}
        unwritten = everything - store.names() - {f"{ENSEMBLE_MODEL}/deployments/lock"}
        assert unwritten
        assert unwritten <= CONFIGS or not CONFIGS & store.names()
        if f"{ENSEMBLE_MODEL}/{CONFIG}" in store.names():
            assert not unwritten
        assert f"{ENSEMBLE_MODEL}/deployments/pending.json" in store.names() or not store.names()
    else:
        assert store.names() >= CONFIGS
