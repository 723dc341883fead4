"""Runs of version 1.1 and bundles of version 1.3, as version 0.1 of vdeploy has left them."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import tiny_probabilities
from training.recipe import recipe_of_run
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import BundleError, RunError
from vdeploy.inference.in_process import LocalScorer
from vdeploy.video.clips import ClipSpec

OLD = Path(__file__).with_name("version_1")
EXPECTED = json.loads((OLD / "expected.json").read_text())


def test_an_old_run_is_read_with_its_architecture():
    run = Run.load(OLD / "run")
    assert [(stage.id, stage.architecture) for stage in run.info.stages] == [
        ("extractor", "vgg19"),
        ("classifier", "lstm"),
    ]
    assert run.info.stages[1].settings == {"name": "lstm", "units": 8, "pooling": "last", "dense": 4, "dropout": 0.5}
    assert (run.feature_shape, run.spec, run.info.violent) == ((4, 512), ClipSpec(frames=4, size=32), "violent")
    assert run.weights().source == "random"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the run was saved by a Keras that Python 3.10 cannot have")
def test_an_old_run_computes_what_it_computed():
    features = np.random.default_rng(0).random((3, 4, 512), np.float32)
    found = Run.load(OLD / "run").classifier()(features, training=False).numpy()
    np.testing.assert_allclose(found, EXPECTED["run_probabilities"], atol=1e-6)


def test_a_run_of_a_newer_keras_says_which(tmp_path):
    copy = Path(shutil.copytree(OLD / "run", tmp_path / "run"))
    run = Run.load(copy)
    with (
        zipfile.ZipFile(OLD / "run" / "classifier.keras") as old,
        zipfile.ZipFile(copy / "classifier.keras", "w") as new,
    ):
        changed = {"metadata.json": json.dumps({"keras_version": "99.0.1"}), "config.json": "{}"}
        for name in old.namelist():
            new.writestr(name, changed.get(name, old.read(name)))
    with pytest.raises(RunError, match=r"was saved by Keras 99\.0\.1, and 3\.\S+ cannot read it"):
        run.classifier()


def test_the_recipe_of_an_old_run_is_read_without_a_word(capsys):
    recipe = recipe_of_run(OLD / "run")
    assert (recipe.head.units, recipe.backbone.weights) == (8, "random")
    assert not capsys.readouterr().err


def test_an_old_run_without_its_recipe_is_damaged(tmp_path):
    copy = Path(shutil.copytree(OLD / "run", tmp_path / "run"))
    (copy / "recipe.toml").unlink()
    with pytest.raises(RunError, match="damaged"):
        Run.load(copy)


def test_an_old_bundle_keeps_its_digest_and_its_answers():
    bundle = Bundle(OLD / "bundle")
    assert bundle.manifest.digest == EXPECTED["bundle_digest"]
    assert [stage.architecture for stage in bundle.manifest.stages] == ["vgg19", "lstm"]
    assert bundle.manifest.feature_shape == (4, 8)
    assert bundle.manifest.extractor.flops is None
    clips = synthetic_frames(2, 4, 32)
    np.testing.assert_allclose(LocalScorer(bundle).score(clips), tiny_probabilities(clips), atol=1e-6)


def test_a_bundle_of_a_later_version_is_refused(tmp_path):
    copy = Path(shutil.copytree(OLD / "bundle", tmp_path / "bundle"))
    values = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**values, "schema_version": "3.0"}))
    with pytest.raises(BundleError, match=r"schema version 3\.0"):
        Bundle(copy)


@pytest.mark.slow
@pytest.mark.parametrize("stages", [[], [0, 0], [1, 0]])
def test_stages_out_of_order_are_refused(tiny_bundle_dir, tmp_path, stages):
    copy = Path(shutil.copytree(tiny_bundle_dir, tmp_path / "bundle"))
    values = json.loads((copy / "bundle.json").read_text())
    held = values["stages"]
    (copy / "bundle.json").write_text(json.dumps({**values, "stages": [held[number] for number in stages]}))
    with pytest.raises(BundleError, match="stages are not an extractor and a classifier"):
        Bundle(copy)


def test_a_run_of_version_1_0_is_read(tmp_path):
    copy = Path(shutil.copytree(OLD / "run", tmp_path / "run"))
    values = json.loads((copy / "run.json").read_text())
    del values["clip_seconds"]
    (copy / "run.json").write_text(json.dumps({**values, "schema_version": "1.0"}))
    assert Run.load(copy).info.clip_seconds is None
