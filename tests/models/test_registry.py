"""A model is one file and one line in the registry, which a toy pair shows; special lowerings equal generic ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testing.models import build_lstm, vgg19_extractor
from testing.toy_models import toys_registered
from training.pipeline import train
from training.recipe import load_recipe
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import RecipeError
from vdeploy.evaluate import evaluate_on
from vdeploy.export.exporter import export_run
from vdeploy.export.lowering.choose import extractor_graph, head_graph
from vdeploy.export.lowering.graphs import KerasExtractorGraph, KerasHeadGraph
from vdeploy.export.lowering.lstm_tensorflow import LSTMGraph
from vdeploy.export.lowering.vgg19_tensorflow import VGG19Graph
from vdeploy.export.onnx.convert import classifier_to_onnx, extractor_to_onnx
from vdeploy.export.options import ExportOptions
from vdeploy.formats import FORMATS
from vdeploy.inference.in_process import LocalScorer
from vdeploy.models.backbones.combined import Combined
from vdeploy.models.backbones.vgg19.model import VGG19
from vdeploy.models.heads.lstm.model import LSTMSettings
from vdeploy.models.registry import BACKBONES, ENSEMBLE, HEADS, backbone_of, backbone_type, head_of
from vdeploy.models.stage_names import stage_model
from vdeploy.models.weights.find import Weights
from vdeploy.triton.repository.writer import write_repository
from vdeploy.video.clips import ClipSpec, read_clip

RANDOM = Weights("random", None, "0" * 64)
FORMATS_OF_TOY = ("onnx-fp32", "onnx-fp16", "savedmodel", "tflite-fp32", "openvino-fp32")


@pytest.fixture(scope="module")
def registered():
    with toys_registered():
        yield


@pytest.fixture(scope="module")
def toy_run(registered, clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("toy")
    settings = ("clip.size=32", "clip.frames=4", "training.epochs=2", "training.batch=8")
    recipe = load_recipe("default", [*settings, "backbone.name=toy-colours", "head.name=toy-average"])
    return train(clips_dir, folder / "run", recipe, store_root=folder / "store")


@pytest.mark.slow
def test_a_run_says_what_it_is_made_of(toy_run: Run) -> None:
    assert [stage.architecture for stage in toy_run.info.stages] == ["toy-colours", "toy-average"]
    assert (toy_run.feature_shape, toy_run.head.settings.name) == ((4, 8), "toy-average")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_toy_goes_through_every_verb(toy_run: Run, clips_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    options = ExportOptions(store_root=tmp_path / "store")
    exported = export_run(toy_run, [FORMATS[name] for name in FORMATS_OF_TOY], tmp_path / "bundle", options=options)
    assert exported.made == FORMATS_OF_TOY
    assert not exported.rejected
    extractor, classifier = exported.bundle.manifest.stages
    assert (extractor.flops, classifier.parameters) == (2 * 4 * 16 * 16 * 27 * 8, 2 * 8 + 2)
    clip = read_clip(next(clips_dir.rglob("*.mp4")), ClipSpec(frames=4, size=32)).frames[np.newaxis]
    expected = toy_run.classifier()(toy_run.extractor().extract(clip), training=False).numpy()
    for name in FORMATS_OF_TOY:
        np.testing.assert_allclose(LocalScorer(exported.bundle, name).score(clip), expected, atol=2e-3)
    known = evaluate_on(toy_run.root, clips_dir, split="all", positive=(), store_root=tmp_path / "store")
    found = evaluate_on(tmp_path / "bundle", clips_dir, split="all", positive=(), store_root=tmp_path / "store")
    assert found.probabilities == pytest.approx(known.probabilities, abs=2e-3)
    repository = write_repository(exported.bundle, tmp_path / "repository")
    assert repository.models == ("toy_colours_features", "toy_average_classifier", "violence_detector")


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_is_what_it_is_registered_as(name: str) -> None:
    kind = backbone_type(name)
    assert name == kind.name
    branch = {"name": "vgg19", "frames": 4}
    made_of = {"branches": [branch, branch]} if name == Combined.name else {}
    assert backbone_of({"name": name, **made_of}).settings.name == name


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_builds_and_ends_in_probabilities(name: str) -> None:
    made_of = {"members": [{"name": "pooling"}, {"name": "gru", "units": 8}]} if name == ENSEMBLE else {}
    model = head_of({"name": name, **made_of}).build((4, 24))
    assert model.name == stage_model("classifier", name)
    found = model(np.random.default_rng(0).random((3, 4, 24), np.float32), training=False).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no backbone 'vgg91', did you mean 'vgg19'\?"):
        load_recipe("default", ["backbone.name=vgg91"])
    with pytest.raises(RecipeError, match=r"no head 'transfromer', did you mean 'transformer'\?"):
        load_recipe("default", ["head.name=transfromer"])


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["avg", "avg45"])
def test_vgg19_in_onnx_is_what_the_generic_lowering_gives(layer, monkeypatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    channels = (8, 8, 16, 16, *[32] * 4, *[64] * 3, 512, *[64] * 3, 512)
    extractor = vgg19_extractor(layer, RANDOM, size=32, channels=channels)
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
    special = extractor_to_onnx(extractor)
    monkeypatch.setattr(VGG19, "lowerings", {})
    special, generic = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"frames": frames})[0]
        for model in (special, extractor_to_onnx(extractor))
    )
    np.testing.assert_allclose(special, generic, rtol=1e-4, atol=1e-5 * np.abs(generic).max())


def test_vgg19_in_tensorflow_is_what_the_generic_lowering_gives() -> None:
    extractor = vgg19_extractor("avg", RANDOM, size=32)
    special = extractor_graph(extractor)
    assert isinstance(special, VGG19Graph)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected = KerasExtractorGraph(extractor)(pixels).numpy()
    np.testing.assert_allclose(special(pixels).numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_lstm_is_what_the_generic_lowering_gives(pooling) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = build_lstm(6, 24, LSTMSettings(units=8, pooling=pooling))
    features = np.random.default_rng(0).random((3, 6, 24), np.float32)
    special = head_graph(model)
    assert isinstance(special, LSTMGraph)
    expected = model(features, training=False).numpy()
    for found in (special(features).numpy(), KerasHeadGraph(model)(features).numpy()):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    session = onnxruntime.InferenceSession(classifier_to_onnx(model).SerializeToString())
    np.testing.assert_allclose(session.run(None, {"features": features})[0], expected, atol=1e-6)
