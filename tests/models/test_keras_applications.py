"""MobileNetV3 and EfficientNetV2: they are what Keras builds, and weights that cannot be had or do not fit are told."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.model_choice.candidates import find_candidates
from vdeploy.core.errors import WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of, backbone_type
from vdeploy.video.clips import ClipSpec

NETWORKS = {"mobilenet-v3": ("MobileNetV3Large", 960), "efficientnet-v2-b0": ("EfficientNetV2B0", 1280)}
SPEC = ClipSpec(frames=2, size=64)


def extractor(name: str, weights: str = "random", seed: int = 0) -> FeatureExtractor:
    backbone = backbone_of({"name": name, "weights": weights})
    return FeatureExtractor(backbone, backbone.find_weights(), SPEC, seed=seed)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 2, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=NETWORKS)
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, FeatureExtractor, Path]:
    """A network with random weights, and a file of them."""
    found = extractor(request.param)
    path = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    found.network.save_weights(path)
    return request.param, found, path


@pytest.mark.slow
def test_features_are_those_of_keras(own: tuple[str, FeatureExtractor, Path], frames: np.ndarray) -> None:
    name, mine, _ = own
    function, count = NETWORKS[name]
    theirs: Any = getattr(load_keras().applications, function)(
        include_top=False, pooling="avg", weights=None, input_shape=(64, 64, 3)
    )
    theirs.set_weights(mine.network.get_weights())
    features = mine.extract(frames)
    assert features.shape == (1, *mine.backbone.feature_shape(2)) == (1, 2, count)
    expected = theirs(frames[0].astype(np.float32)).numpy()
    # Random weights amplify what rounding leaves of the other order in which pixels are scaled.
    np.testing.assert_allclose(features[0], expected, rtol=0, atol=1e-2 * np.abs(expected).max())
    assert 1e-2 < np.abs(features[0, 0] - features[0, 1]).max() < 1e3  # random weights neither vanish nor explode


@pytest.mark.slow
def test_weights_come_from_a_file(own: tuple[str, FeatureExtractor, Path], frames: np.ndarray) -> None:
    name, mine, path = own
    np.testing.assert_array_equal(extractor(name, str(path), seed=1).extract(frames), mine.extract(frames))


@pytest.mark.slow
def test_a_file_of_another_network_is_refused(own: tuple[str, FeatureExtractor, Path]) -> None:
    name, _, path = own
    (other,) = NETWORKS.keys() - {name}
    with pytest.raises(WeightsError, match=r"own\.weights\.h5 holds no weights for .*; give a file like .*\.h5"):
        extractor(other, str(path))


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.weights.h5"
    text.write_text("no weights\n")
    with pytest.raises(WeightsError, match=r"text\.weights\.h5 holds no weights for"):
        extractor("mobilenet-v3", str(text))


@pytest.mark.slow
def test_onnx_computes_the_same(own: tuple[str, FeatureExtractor, Path], frames: np.ndarray) -> None:
    ort = pytest.importorskip("onnxruntime")
    from vdeploy.export.onnx.convert import extractor_to_onnx

    _, mine, _ = own
    model = extractor_to_onnx(mine)
    assert [value.name for value in model.graph.input] == ["frames"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = mine.extract(frames)
    found = session.run(None, {"frames": frames})[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "module", "key"),
    [("mobilenet-v3", "mobilenet_v3", "large_224_1.0_float"), ("efficientnet-v2-b0", "efficientnet_v2", "b0")],
)
def test_hashes_are_those_that_keras_checks(name: str, module: str, key: str) -> None:
    source = importlib.import_module(f"keras.src.applications.{module}")
    assert backbone_type(name).weights_file.md5 == source.WEIGHTS_HASHES[key][1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "recipe"), [("mobilenet-v3", "mobilenet"), ("efficientnet-v2-b0", "efficientnet-v2")])
def test_weights_that_cannot_be_had(name: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    kind: Any = backbone_type(name)
    monkeypatch.setattr(kind, "weights_file", dataclasses.replace(kind.weights_file, url="http://127.0.0.1:9/w.h5"))
    tried = r"cannot be had: not in .*models; 127\.0\.0\.1:9: no connection .*; pass --weights PATH, or put .*\.h5 into"
    with pytest.raises(WeightsError, match=tried):
        backbone_of({"name": name}).find_weights()
    other = tmp_path / "other.toml"
    other.write_text('[backbone]\nname = "vgg19"\nweights = "random"\n[clip]\nsize = 32\n')
    (found,), left_out = find_candidates([recipe, str(other)], ())
    assert found.name == "other"
    assert "\n" not in left_out[recipe]
    assert kind.weights_file.name in left_out[recipe]
