"""Measuring a run in Keras and its bundle in ONNX Runtime on labelled clips: the same answers."""

from __future__ import annotations

import csv
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from vdeploy.artifacts.bundle import Bundle
from vdeploy.cli.app import app
from vdeploy.core.errors import DatasetError, RunError
from vdeploy.evaluate import evaluate_on
from vdeploy.inference.in_process import LocalScorer
from vdeploy.video.clips import ClipSpec, read_clip


@pytest.fixture(scope="module")
def store(narrow_run, tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def of_run(narrow_run, clips_dir, store):
    return evaluate_on(narrow_run.root, clips_dir, split="all", positive=(), store_root=store)


@pytest.fixture(scope="module")
def of_bundle(narrow_bundle_dir, clips_dir, store):
    return evaluate_on(narrow_bundle_dir, clips_dir, split="all", positive=(), store_root=store)


@pytest.mark.slow
def test_run_and_bundle_agree_on_every_clip(of_run, of_bundle):
    assert len(of_run.probabilities) == 20
    assert list(of_run.probabilities) == list(of_bundle.probabilities)
    for path, probability in of_run.probabilities.items():
        assert of_bundle.probabilities[path] == pytest.approx(probability, abs=1e-3), path


def test_what_changed_places_is_told_so(narrow_run, narrow_bundle_dir, clips_dir, store):
    for model in (narrow_run.root, narrow_bundle_dir):
        with pytest.raises(RunError, match=rf"{model} holds no clips but a model, which comes first; swap it"):
            evaluate_on(clips_dir, model, split="all", positive=(), store_root=store)


def test_probabilities_differ_from_clip_to_clip(of_run):
    assert max(of_run.probabilities.values()) - min(of_run.probabilities.values()) > 0.01


def test_the_measures_follow_from_the_probabilities(of_run, narrow_run):
    threshold = narrow_run.info.threshold
    right = sum(
        (probability >= threshold) == path.startswith("violent/") for path, probability in of_run.probabilities.items()
    )
    values = of_run.to_dict()
    assert values["clips"] == 20
    assert values["accuracy"] == pytest.approx(right / 20)
    assert values["left_out"] == []
    assert values["probabilities"] == of_run.probabilities


def test_the_splits_of_the_training_are_drawn_again(narrow_run, clips_dir, store, of_run):
    with (narrow_run.root / "clips.csv").open(newline="") as file:
        trained = {row["path"] for row in csv.DictReader(file) if row["split"] == "test"}
    tested = evaluate_on(narrow_run.root, clips_dir, split="test", positive=(), store_root=store)
    assert set(tested.probabilities) == trained
    assert tested.evaluation.to_dict()["clips"] == len(trained) < 20
    for path, probability in tested.probabilities.items():
        assert probability == pytest.approx(of_run.probabilities[path], abs=1e-6)
    assert tested.evaluation.to_dict()["accuracy"] == pytest.approx(narrow_run.metrics["test"]["accuracy"])


def test_mirror_images_are_averaged_and_their_cost_is_told(narrow_bundle_dir, clips_dir, store, of_bundle):
    result = evaluate_on(narrow_bundle_dir, clips_dir, split="all", positive=(), store_root=store, tta="mirror")
    scorer = LocalScorer(Bundle(narrow_bundle_dir))
    path = next(iter(result.probabilities))
    frames = read_clip(clips_dir / path, scorer.spec).frames[np.newaxis]
    both = [scorer.score(np.ascontiguousarray(view))[0, 1] for view in (frames, frames[:, :, :, ::-1])]
    assert abs(both[0] - both[1]) > 1e-4
    assert result.probabilities[path] == pytest.approx(np.mean(both), abs=1e-5)
    assert of_bundle.probabilities[path] == pytest.approx(both[0], abs=1e-5)
    cost = result.to_dict()["test_time_augmentation"]
    assert 0 < cost["clips_per_second"] < cost["clips_per_second_without"]
    assert "test_time_augmentation" not in of_bundle.to_dict()
    args = ["evaluate", str(narrow_bundle_dir), str(clips_dir), "--split", "test", "--tta", "mirror"]
    told = CliRunner().invoke(app, args, catch_exceptions=False).stdout
    assert re.search(r"test-time augmentation: \S+ clips/s with it, \S+ without, decoding left out", told)


def test_a_run_has_no_mirror_images(narrow_run, clips_dir, store):
    with pytest.raises(RunError, match=r"stored features of .* give its bundle, or leave --tta out"):
        evaluate_on(narrow_run.root, clips_dir, split="all", positive=(), store_root=store, tta="mirror")


def test_a_bundle_needs_no_run(tmp_path, clips_dir):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    result = evaluate_on(bundle.root, clips_dir, split="all", positive=(), store_root=tmp_path / "store")
    path = next(iter(result.probabilities))
    frames = read_clip(clips_dir / path, ClipSpec(frames=4, size=32)).frames
    assert result.probabilities[path] == pytest.approx(tiny_probabilities(frames[None])[0, 1], abs=1e-5)
    assert not (tmp_path / "store").exists()


def test_damaged_clips_are_left_out_and_named(tmp_path, broken_clips_dir):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    result = evaluate_on(bundle.root, broken_clips_dir, split="all", positive=(), store_root=tmp_path)
    assert {problem.path for problem in result.problems} == {
        "non_violent/empty.mp4",
        "violent/corrupt.avi",
        "violent/text.mp4",
    }
    assert len(result.probabilities) == result.evaluation.to_dict()["clips"] == 21


@pytest.mark.parametrize(
    ("name", "content", "reason"), [("empty.mp4", "", "is empty"), ("text.mp4", "text", "is not a readable video")]
)
@pytest.mark.parametrize("subject", ["run", "bundle"])
def test_clips_that_cannot_be_used_are_refused_when_strict(
    subject, name, content, reason, tmp_path, clips_dir, narrow_run, store
):
    folder = tmp_path / "clips"
    shutil.copytree(clips_dir, folder)
    (folder / "violent" / name).write_text(content)
    root = narrow_run.root if subject == "run" else make_tiny_bundle(tmp_path / "bundle").root
    with pytest.raises(DatasetError, match=rf"{name}: {reason}; replace or remove .*leave --strict out"):
        evaluate_on(root, folder, split="all", positive=(), store_root=store, strict=True)


def test_clips_that_can_all_not_be_read_are_no_data(tmp_path):
    for name in ("violent/a.mp4", "calm/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"no video {name}")
    bundle = make_tiny_bundle(tmp_path / "bundle")
    data = tmp_path / "clips.csv"
    data.write_text("path,label\nviolent/a.mp4,violent\ncalm/b.mp4,non-violent\n")
    with pytest.raises(DatasetError, match=r"none of the 2 clips in .* can be read; see: vdeploy data scan"):
        evaluate_on(bundle.root, data, split="all", positive=(), store_root=tmp_path)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="there is no split 'exam'; choose train, valid, test or all"):
        evaluate_on(tmp_path, tmp_path, split="exam", positive=(), store_root=tmp_path)


def test_an_empty_split_is_named(tmp_path, clips_dir):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    data = tmp_path / "clips.csv"
    with data.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        for number, split in enumerate(("train", "train", "valid", "valid")):
            kind = ("violent", "non_violent")[number % 2]
            rows.writerow((clips_dir / kind / f"{kind}_{number:04}.mp4", kind, split))
    with pytest.raises(DatasetError, match=r"the test split of .* is empty; choose another: --split"):
        evaluate_on(bundle.root, data, split="test", positive=(), store_root=tmp_path)


def test_something_else_is_no_run(tmp_path, clips_dir):
    with pytest.raises(RunError, match=r"is no finished run: it holds no run\.json"):
        evaluate_on(tmp_path, clips_dir, split="all", positive=(), store_root=tmp_path)
