"""A fine-tuned run through the verbs: what everything takes is the backbone that was trained."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from testing.toy_models import toys_registered
from training.experiments.ablation import ladder
from training.experiments.data import load_study_data
from training.experiments.single_run import train_once
from training.methods.ensembling import make_ensemble, train_seeds
from training.pipeline import train
from training.recipe import Recipe, load_recipe
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.run import BACKBONE, MANIFEST, Run
from vdeploy.core.errors import RecipeError, RepositoryError, RunError
from vdeploy.core.files import sha256_of
from vdeploy.evaluate import evaluate_on
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats
from vdeploy.inference.in_process import LocalScorer
from vdeploy.triton.repository.writer import write_repository
from vdeploy.video.clips import read_clip

pytestmark = pytest.mark.slow

ALL_FORMATS = "onnx-fp32,onnx-int8,openvino-fp32,openvino-int8,tflite-fp32,savedmodel"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run and its bundle."""

    run: Run
    bundle: Bundle
    recipe: Recipe


@pytest.fixture(scope="module", autouse=True)
def registered():
    with toys_registered():
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def make(clips: Path, folder: Path, store: Path, overrides: tuple[str, ...]) -> Trained:
    recipe = load_recipe("default", [*overrides, "head.name=pooling"])
    run = train(clips, folder / "run", recipe, store_root=store)
    made = export_run(run, parse_formats("onnx-fp32"), folder / "bundle", options=ExportOptions(store_root=store))
    return Trained(run, made.bundle, recipe)


@pytest.fixture(scope="module")
def frozen(clips_dir, tiny_overrides, store, tmp_path_factory) -> Trained:
    return make(clips_dir, tmp_path_factory.mktemp("frozen"), store, (*tiny_overrides, "backbone.name=toy-blocks"))


@pytest.fixture(scope="module")
def tuned(clips_dir, tiny_overrides, store, tmp_path_factory) -> Trained:
    overrides = (*tiny_overrides, "backbone.name=toy-blocks", "fine_tune.blocks=1", "fine_tune.learning_rate=0.01")
    return make(clips_dir, tmp_path_factory.mktemp("tuned"), store, overrides)


@pytest.mark.timeout(600)
def test_a_run_holds_its_backbone_and_says_so(frozen: Trained, tuned: Trained):
    stage = tuned.run.info.stage("extractor")
    assert (stage.file, stage.fine_tuned_blocks) == (BACKBONE, ("two",))
    assert stage.sha256 == sha256_of(tuned.run.root / BACKBONE) != frozen.run.info.weights_sha256
    assert not frozen.run.info.stage("extractor").fine_tuned_blocks
    assert not (frozen.run.root / BACKBONE).exists()
    one, other = (trained.run.extractor().network for trained in (frozen, tuned))
    for layer in (layer for layer in one.layers if layer.weights):
        for old, new in zip(layer.get_weights(), other.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(old, new) != layer.name.startswith("two"), layer.name


@pytest.mark.timeout(600)
def test_evaluation_and_export_take_the_trained_backbone(frozen: Trained, tuned: Trained, clips_dir: Path, store: Path):
    file = next(clips_dir.rglob("*.mp4"))
    frames = read_clip(file, tuned.run.spec).frames[np.newaxis]
    expected = tuned.run.classifier()(tuned.run.extractor().extract(frames), training=False).numpy()
    np.testing.assert_allclose(LocalScorer(tuned.bundle, "onnx-fp32").score(frames), expected, atol=1e-4)
    features = [trained.run.extractor().extract(frames) for trained in (frozen, tuned)]
    assert np.abs(features[0] - features[1]).max() > 0.01 * np.abs(features[0]).max()

    known = evaluate_on(tuned.run.root, clips_dir, split="test", positive=(), store_root=store)
    found = evaluate_on(tuned.bundle.root, clips_dir, split="all", positive=(), store_root=store)
    assert {path: found.probabilities[path] for path in known.probabilities} == pytest.approx(
        known.probabilities, abs=2e-3
    )
    assert known.evaluation.accuracy == tuned.run.metrics["test"]["accuracy"]

    stages = [trained.bundle.manifest.extractor for trained in (frozen, tuned)]
    assert [stage.weights for stage in stages] == ["random", "random, fine-tuned: two"]
    assert stages[1].weights_sha256 == tuned.run.info.weights_sha256 != stages[0].weights_sha256
    card = (tuned.bundle.root / "MODEL_CARD.md").read_text()
    assert "The last blocks of the backbone were trained with the head" in card
    assert "The backbone itself was not trained here" in (frozen.bundle.root / "MODEL_CARD.md").read_text()


@pytest.mark.timeout(600)
def test_a_repository_keeps_both_backbones_apart(frozen: Trained, tuned: Trained, tmp_path: Path):
    own = f"toy_blocks_{tuned.run.info.weights_sha256[:8]}_features"
    assert write_repository(frozen.bundle, tmp_path / "frozen").models[0] == "toy_blocks_features"
    assert write_repository(tuned.bundle, tmp_path / "tuned").models[0] == own
    with pytest.raises(RepositoryError, match=f"serves toy_blocks_features .* the bundle holds {own}"):
        write_repository(tuned.bundle, tmp_path / "frozen")
    assert not (tmp_path / "frozen" / own).exists()


@pytest.mark.timeout(600)
def test_a_changed_backbone_and_other_weights_are_refused(tuned: Trained, tmp_path: Path):
    with pytest.raises(RunError, match="holds its backbone itself; leave --weights out"):
        tuned.run.weights("imagenet")
    shutil.copytree(tuned.run.root, tmp_path / "run")
    with (tmp_path / "run" / BACKBONE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match=r"backbone\.npz is not the extractor of this run"):
        Run.load(tmp_path / "run")
    (tmp_path / "run" / BACKBONE).unlink()
    with pytest.raises(RunError, match=r"backbone\.npz is missing; train again"):
        Run.load(tmp_path / "run")


@pytest.mark.timeout(600)
def test_an_ensemble_has_both_backbones(frozen: Trained, tuned: Trained, clips_dir: Path, store: Path, tmp_path: Path):
    run = make_ensemble([frozen.run.root, tuned.run.root], tmp_path / "both", store_root=store)
    clip = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32, 3), np.uint8)
    said = [member.run.classifier()(member.run.extractor().extract(clip)).numpy() for member in (frozen, tuned)]
    np.testing.assert_allclose(
        run.classifier()(run.extractor().extract(clip)).numpy(), np.mean(said, axis=0), atol=1e-5
    )
    assert [branch["weights"] for branch in run.backbone.settings.branches] == ["random", "random (fine-tuned)"]
    with pytest.raises(RecipeError, match="fine-tuning gives each seed another; leave --seeds out"):
        train_seeds(clips_dir, tmp_path / "five", tuned.recipe, 5, store_root=store)
    assert not (tmp_path / "five").exists()


@pytest.mark.timeout(600)
def test_the_same_training_again_continues_to_the_same_run(
    tuned: Trained, clips_dir: Path, store: Path, tmp_path: Path
):
    """The second training finds all checkpoints of a first one, which ended before its manifest was written."""
    partial = tmp_path / "run.partial"
    shutil.copytree(tuned.run.root, partial)
    for name in (MANIFEST, BACKBONE):
        (partial / name).unlink()
    again = train(clips_dir, tmp_path / "run", tuned.recipe, store_root=store)
    assert again.info.weights_sha256 == tuned.run.info.weights_sha256
    assert json.loads((again.root / "metrics.json").read_text()) == tuned.run.metrics


@pytest.mark.timeout(600)
def test_a_study_trains_blocks_where_an_arm_asks(tuned: Trained, clips_dir: Path, store: Path, tmp_path: Path):
    data, arms = load_study_data(clips_dir, tuned.recipe, store), ladder(tuned.recipe)
    frozen, blocks = arms[-3:-1]
    assert blocks.name == "+ fine-tuned blocks"
    assert data.seen_by(frozen.recipe) is data
    trunk = data.seen_by(blocks.recipe).trunk
    assert trunk is not None
    before = trunk.tail.get_weights()
    assert train_once(blocks.recipe, data, tmp_path / "one").epochs == 2
    assert not np.array_equal(trunk.tail.get_weights()[0], before[0])


@pytest.mark.timeout(1200)
def test_every_format_proves_itself_against_the_trained_backbone(clips_dir, tiny_overrides, store, tmp_path):
    recipe = load_recipe("default", [*tiny_overrides, "head.name=pooling", "fine_tune.blocks=1"])
    run = train(clips_dir, tmp_path / "run", recipe, store_root=store)
    made = export_run(run, parse_formats(ALL_FORMATS), tmp_path / "bundle", options=ExportOptions(store_root=store))
    assert made.made == tuple(ALL_FORMATS.split(","))
    assert not made.rejected
