"""A run folder is complete, checked when it is opened, and never lost to the next training."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from training.pipeline import train
from training.recipe import load_recipe
from training.work_folder import refuse_foreign_folder
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import DatasetError, RunError
from vdeploy.core.files import sha256_of
from vdeploy.core.lazy_imports import load_keras

TINY = ["backbone.weights=random", "clip.size=32", "clip.frames=4", "training.epochs=2", "head.units=8"]


def test_the_folder_holds_what_the_contract_names(tiny_run: Run) -> None:
    for name in ("recipe.toml", "clips.csv", "classifier.keras", "checkpoints/best.npz", "history.csv", "metrics.json",
                 "tensorboard", "report.html", "run.json"):  # fmt: skip
        assert (tiny_run.root / name).exists(), name
    rows = list(csv.DictReader((tiny_run.root / "clips.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["split"] for row in rows} == {"train", "valid", "test"}
    metrics = json.loads((tiny_run.root / "metrics.json").read_text())
    for split, values in metrics.items():
        confusion = values["confusion"]
        assert sum(confusion.values()) == values["clips"] == sum(row["split"] == split for row in rows)
        assert values["accuracy"] == pytest.approx((confusion["tn"] + confusion["tp"]) / values["clips"])


def test_the_calibration_is_inside_the_classifier(tiny_run: Run) -> None:
    """Raising and dividing the logits of the best epoch gives the saved classifier."""
    run = Run.load(tiny_run.root)
    best = np.load(tiny_run.root / "checkpoints" / "best.npz")
    saved = {variable.path: variable.numpy() for variable in run.classifier().weights}
    raw = {path: best[f"model_{index:04d}"] for index, path in enumerate(saved)}
    np.testing.assert_allclose(saved["logits/kernel"] * run.info.temperature, raw["logits/kernel"], rtol=1e-5)
    logits = saved["logits/bias"] * run.info.temperature - (0, run.info.bias)
    np.testing.assert_allclose(logits, raw["logits/bias"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(saved["dense/kernel"], raw["dense/kernel"])


def test_it_knows_how_long_its_clips_are(tiny_run: Run) -> None:
    """Synthetic clips last two or three seconds; older runs do not say."""
    assert tiny_run.info.clip_seconds is not None
    assert 1 < tiny_run.info.clip_seconds < 5


@pytest.fixture
def copy(tiny_run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.root, tmp_path / "run"))


def test_a_lambda_layer_is_refused_and_not_run(copy: Path) -> None:
    keras = load_keras()
    inputs = keras.Input((4, 8))
    trap = keras.layers.Lambda(lambda values: values[:, 0, :2])(inputs)
    keras.Model(inputs, trap).save(copy / "classifier.keras")
    manifest = copy / "run.json"
    values = json.loads(manifest.read_text(encoding="utf-8"))
    values["stages"][1]["sha256"] = sha256_of(copy / "classifier.keras")
    manifest.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(RunError, match=r"classifier\.keras cannot be loaded \(.*Lambda") as caught:
        Run.load(copy).classifier()
    assert "\n" not in str(caught.value)


def test_a_missing_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no finished run.*vdeploy train DATA"):
        Run.load(tmp_path / "nothing")
    (tmp_path / "half.partial").mkdir()
    with pytest.raises(RunError, match="finish it"):
        Run.load(tmp_path / "half")


def test_a_foreign_classifier_is_refused(copy: Path) -> None:
    with (copy / "classifier.keras").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="not the classifier of this run"):
        Run.load(copy)
    (copy / "classifier.keras").unlink()
    with pytest.raises(RunError, match="is missing"):
        Run.load(copy)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema_version": "1.0"}', '{"schema_version": "2.0"}'])
def test_a_damaged_manifest_is_one_line(copy: Path, text: str) -> None:
    (copy / "run.json").write_text(text)
    with pytest.raises(RunError, match="damaged") as caught:
        Run.load(copy)
    assert "\n" not in str(caught.value)


def test_a_newer_schema_is_refused(copy: Path) -> None:
    values = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**values, "schema_version": "3.0"}))
    with pytest.raises(RunError, match=r"schema version 3\.0"):
        Run.load(copy)


def test_other_weights_are_refused(copy: Path) -> None:
    values = json.loads((copy / "run.json").read_text())
    values["stages"][0]["sha256"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match="not those that"):
        Run.load(copy).weights()


@pytest.mark.slow
def test_training_again_reuses_features_and_keeps_the_older_run(
    clips_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, store = tmp_path / "run", tmp_path / "store"
    recipe = load_recipe("default", TINY)
    first = train(clips_dir, out, recipe, store_root=store)
    capsys.readouterr()
    second = train(clips_dir, out, recipe, store_root=store)
    printed = capsys.readouterr().err
    assert "nothing to decode, nothing to extract" in printed
    assert second.metrics == first.metrics
    previous = Run.load(tmp_path / "run.previous")
    assert previous.info.created == first.info.created
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.previous", "store"]


@pytest.mark.slow
def test_work_on_other_clips_is_not_resumed(
    clips_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "run.partial"
    (partial / "checkpoints").mkdir(parents=True)
    (partial / ".fingerprint").write_text("of something else")
    (partial / "checkpoints" / "epoch-00001.npz").write_bytes(b"of something else")
    train(clips_dir, tmp_path / "run", load_recipe("default", TINY), store_root=tmp_path / "store")
    assert "starting afresh" in capsys.readouterr().err.replace("\n", " ")
    assert not partial.exists()


@pytest.mark.slow
def test_features_beyond_the_memory_limit_are_streamed_to_the_same_classifier(
    clips_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for name, limit in (("resident", 1.0), ("streamed", 1e-5)):
        recipe = load_recipe("default", [*TINY, f"training.memory_limit_gb={limit}"])
        runs.append(train(clips_dir, tmp_path / name, recipe, store_root=tmp_path / "features"))
        assert ("features streamed" in capfd.readouterr().err) == (name == "streamed")
    for one, other in zip(*(run.classifier().get_weights() for run in runs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert runs[0].metrics == runs[1].metrics


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has a name that is not UTF-8, rename it; choose another: --out RUN"):
        refuse_foreign_folder(tmp_path / "\udcff")


def test_a_folder_in_the_way_is_not_touched(clips_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="in the way"):
        train(clips_dir, tmp_path / "mine", load_recipe("default", TINY), store_root=tmp_path / "store")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_missing_split_says_so(clips_dir: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for kind in ("violent", "non_violent"):
            folder = tmp_path / "clips" / split / kind
            folder.mkdir(parents=True)
    sources = sorted((clips_dir / "violent").iterdir())[:2] + sorted((clips_dir / "non_violent").iterdir())[:2]
    for index, source in enumerate(sources):
        shutil.copy(source, tmp_path / "clips" / ("train", "test")[index % 2] / source.parent.name)
    with pytest.raises(DatasetError):
        train(tmp_path / "clips", tmp_path / "run", load_recipe("default", TINY), store_root=tmp_path / "store")
