"""Quantization-aware training: blocks compute what the quantizer writes, and their INT8 export loses less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import numpy as np
import onnxruntime
import pytest

from testing.toy_models import ToyBlocks, ToyBlocksSettings, toys_registered
from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import FeatureSplit
from training.methods.fine_tuning import trunk_of
from training.methods.quantization_aware import RANGE_DECAY, QuantizedTail, round_weights
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.export.lowering.generic_onnx import extractor_by_tf2onnx
from vdeploy.export.quantization import CPU
from vdeploy.export.quantization.histograms import collect_histograms
from vdeploy.export.quantization.qdq import quantizable_layers, tensors_to_calibrate, write_qdq
from vdeploy.export.quantization.ranges import min_max
from vdeploy.features.prediction import predict
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import BACKBONES, backbone_of
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec

if TYPE_CHECKING:
    import onnx

RANDOM = Weights("random", None, "0" * 64)
SMALL = ("clip.frames=2", "clip.size=32", "backbone.weights=random", "fine_tune.blocks=1", "training.precision=float32")
AWARE = "fine_tune.quantization_aware=true"


class WideSettings(ToyBlocksSettings):
    name: Literal["toy-wide"] = "toy-wide"  # type: ignore[assignment]


class Wide(ToyBlocks):
    """A depthwise convolution with one channel that is 140 times as large as the others."""

    name = "toy-wide"
    title = "toy wide"
    settings_type = WideSettings
    blocks = ("wide",)
    loudest = 140.0

    def build(self, spec: ClipSpec, weights: Weights) -> Any:
        del weights
        keras: Any = load_keras()
        layers = keras.layers
        pixels = layers.Input((spec.size, spec.size, 3), name="pixels", dtype="float32")
        x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
        x = layers.Conv2D(8, 3, strides=4, padding="same", activation="relu", name="stem")(x)
        x = layers.DepthwiseConv2D(3, padding="same", name="wide.depthwise")(x)
        x = layers.ReLU(name="wide.relu")(x)
        x = layers.Conv2D(16, 1, name="wide.pointwise")(x)
        network = keras.Model(pixels, layers.GlobalAveragePooling2D()(x))
        loudness = np.ones(8, np.float32)
        loudness[0] = self.loudest
        depthwise, pointwise = network.get_layer("wide.depthwise"), network.get_layer("wide.pointwise")
        kernel, bias = depthwise.get_weights()
        depthwise.set_weights([np.abs(kernel) * loudness[:, None], bias])
        kernel, bias = pointwise.get_weights()
        pointwise.set_weights([kernel / loudness[:, None], bias])
        return network


class Normalized(ToyBlocks):
    """Blocks with a layer whose eight bits are not simulated, or with an activation that is not fused."""

    def build(self, spec: ClipSpec, weights: Weights) -> Any:
        del weights
        layers: Any = load_keras().layers
        pixels = layers.Input((spec.size, spec.size, 3), name="pixels", dtype="float32")
        x = layers.Conv2D(4, 3, name="one.conv", activation="swish")(pixels)
        x = layers.BatchNormalization(name="two.bn")(x)
        return load_keras().Model(pixels, layers.GlobalAveragePooling2D()(x))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with toys_registered(), mock.patch.dict(BACKBONES, {"toy-wide": f"{__name__}:Wide"}):
        yield


def recipe(*overrides: str, name: str = "edge", backbone: str = "toy-blocks") -> Recipe:
    return load_recipe(name, [f"backbone.name={backbone}", *SMALL, *overrides])


def infer(model: onnx.ModelProto, frames: np.ndarray) -> np.ndarray:
    """Features, with every QuantizeLinear and DequantizeLinear computed as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    features: np.ndarray = session.run(["features"], {"frames": frames})[0]
    return features


def ranges_of(model: onnx.ModelProto, frames: np.ndarray) -> dict[str, tuple[float, float]]:
    histograms = collect_histograms(model, tensors_to_calibrate(model), [{"frames": frames}])
    return {name: min_max(histogram, CPU) for name, histogram in histograms.items()}


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [("toy-blocks", 2, 32), pytest.param("efficientnet-lite0", 4, 64, marks=pytest.mark.slow)],
)
def test_blocks_compute_what_the_quantizer_writes(name: str, count: int, size: int) -> None:
    """With the same ranges; a value that lies between two levels may be rounded to either."""
    tf: Any = load_tensorflow()
    spec, backbone = ClipSpec(frames=2, size=size), backbone_of({"name": name, "weights": "random"})
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, size, size, 3), dtype=np.uint8)
    trunk = Trunk(backbone, count, spec, RANDOM)
    activations = FeatureExtractor(trunk, RANDOM, spec).extract(frames)
    activations = activations.reshape(-1, activations.shape[-1])
    tail, weights = QuantizedTail(trunk.another_tail()), [tf.constant(value) for value in trunk.tail.get_weights()]
    _, state = tail.stateless_call(weights, tail.first_state, activations, training=True)
    simulated, _ = tail.stateless_call(weights, state, activations, training=False)

    model = extractor_by_tf2onnx(FeatureExtractor(backbone, RANDOM, spec))
    layers = quantizable_layers(model)
    kept = [layer.name for layer in layers[: len(layers) - sum(map(len, trunk.layers))]]
    places = {output: place for place, node in enumerate(model.graph.node) for output in node.output}
    # In a chain of blocks, the tensors behind the trunk are those of the state, in their order.
    first = places[next(layer for layer in layers if layer.name not in kept).input[0]]
    tensors = sorted((t for t in tensors_to_calibrate(model) if places[t] >= first), key=places.__getitem__)
    learned = {name: (-float(reach[0]), float(reach[1])) for name, reach in zip(tensors, np.array(state), strict=True)}
    expected = infer(write_qdq(model, CPU, ranges_of(model, frames) | learned, keep=kept), frames)
    loss = np.abs(expected - infer(model, frames))
    error = np.abs(np.reshape(simulated, expected.shape) - expected)
    assert error.mean() < 0.01 * loss.mean()
    assert np.median(error) < 1e-5 * np.abs(expected).max()


def test_gradients_pass_the_rounding_and_end_where_a_value_is_clipped() -> None:
    tf, keras = load_tensorflow(), load_keras()
    given = keras.Input((2, 2, 3))
    tail = keras.Model(given, keras.layers.Conv2D(4, 1, name="conv")(given))
    quantized, random = QuantizedTail(tail), np.random.default_rng(0)
    weights = [tf.constant(random.normal(size=weight.shape), tf.float32) for weight in tail.weights]
    activations = tf.constant(random.normal(size=(5, 2, 2, 3)), tf.float32)
    reach = [np.float32([0.5, 1.0])]
    with tf.GradientTape() as tape:
        tape.watch([*weights, activations])
        features, _ = quantized.stateless_call(weights, reach, activations, training=False)
        total = tf.reduce_sum(features)
    by_kernel, by_bias, by_activations = tape.gradient(total, [*weights, activations])
    values, kernel = activations.numpy(), np.asarray(round_weights(weights[0], 1))
    step = 1.5 / 255
    levels = np.clip(np.rint(values / step) + round(0.5 / step), 0, 255) - round(0.5 / step)
    np.testing.assert_allclose(by_kernel[0, 0], np.repeat((levels * step).sum((0, 1, 2))[:, None], 4, 1), rtol=1e-4)
    np.testing.assert_allclose(by_bias, np.full(4, 20.0))
    inside = (values > -0.5 - step) & (values < 1.0 + step)
    assert 0 < np.mean((values < -0.5 - step) | (values > 1.0 + step)) < 1
    expected = np.broadcast_to(kernel[0, 0].sum(-1), values.shape)
    surely = (values > -0.5 + step) & (values < 1.0 - step)
    np.testing.assert_allclose(by_activations.numpy()[surely], expected[surely], rtol=1e-5)
    assert not by_activations.numpy()[~inside].any()


def test_weights_have_a_scale_of_each_output_channel() -> None:
    tf: Any = load_tensorflow()
    weights = np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype(np.float32)
    weights[..., 1] *= 1000
    weights[..., 0, 0] = 0
    for axes, shape in ((1, (1, 1, 1, 2)), (2, (1, 1, 4, 2))):
        scale = np.abs(weights).max(axis=(0, 1) if axes == 2 else (0, 1, 2), keepdims=True).reshape(shape) / 127
        expected = np.rint(weights / np.where(scale > 0, scale, 1)) * scale
        variable = tf.Variable(weights)
        with tf.GradientTape() as tape:
            rounded = round_weights(variable, axes)
        np.testing.assert_allclose(rounded, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(tape.gradient(rounded, variable), np.ones_like(weights))


def test_ranges_are_moving_averages_that_begin_with_the_first_batch() -> None:
    tf, keras = load_tensorflow(), load_keras()
    given = keras.Input((1, 1, 2))
    tail = QuantizedTail(keras.Model(given, keras.layers.Conv2D(1, 1)(given)))
    weights = [tf.ones((1, 1, 2, 1)), tf.zeros(1)]
    batches = [np.float32([[-1, 3]]), np.float32([[-2, 1]]), np.float32([[1, 9]])]
    calls = [tail.stateless_call(weights, tail.first_state, batches[0].reshape(1, 1, 1, 2), training=True)]
    np.testing.assert_array_equal(calls[0][0].numpy().ravel(), [2])  # as it is
    for batch in batches[1:]:
        calls.append(tail.stateless_call(weights, calls[-1][1], batch.reshape(1, 1, 1, 2), training=True))
    below, above, share = 1.0, 3.0, 1 - RANGE_DECAY
    for smallest, largest in ((2, 1), (0, 9)):
        below, above = below + share * (smallest - below), above + share * (largest - above)
    np.testing.assert_allclose(calls[-1][1][0], [below, above], rtol=1e-5)
    # 9 is beyond the range of the step before.
    np.testing.assert_allclose(calls[-1][0].numpy().ravel(), [4], atol=0.05)
    _, still = tail.stateless_call(weights, calls[-1][1], batches[0].reshape(1, 1, 1, 2), training=False)
    np.testing.assert_array_equal(still[0], calls[-1][1][0])


def bright_clips(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips whose second frame is brighter where they are violent."""
    random, labels = np.random.default_rng(count), np.arange(count) % 2
    frames = random.integers(0, 200, (count, 2, 32, 32, 3), dtype=np.uint8)
    frames[labels == 1, 1] += 30
    return frames, labels


def trained(folder: Path, *overrides: str, backbone: str) -> tuple[Any, Trunk]:
    chosen = recipe(*overrides, backbone=backbone)
    trunk = trunk_of(chosen, RANDOM)
    assert trunk is not None
    (train, labels), (valid, valid_labels) = bright_clips(48), bright_clips(24)
    extract = FeatureExtractor(trunk, RANDOM, trunk.spec).extract
    splits = [FeatureSplit(extract(f).astype(np.float16), y) for f, y in ((train, labels), (valid, valid_labels))]
    trainer = make_trainer(chosen, *splits, folder, trunk=trunk)
    trainer.fit()
    return trainer, trunk


@pytest.mark.slow
def test_int8_loses_less_where_a_channel_is_much_larger_than_the_others(tmp_path: Path) -> None:
    frames, labels = bright_clips(24)
    losses = {}
    for name, aware in (("plain", "false"), ("aware", "true")):
        overrides = ("training.epochs=20", "training.batch=8", "fine_tune.learning_rate=0.003", "optimizer.l2=1.0")
        trainer, trunk = trained(
            tmp_path / name, *overrides, f"fine_tune.quantization_aware={aware}", backbone="toy-wide"
        )
        extractor = FeatureExtractor(trunk.whole, RANDOM, trunk.spec)
        extractor.network.set_weights(trunk.network.get_weights())
        model = extractor_by_tf2onnx(extractor)
        assert not [node.op_type for node in model.graph.node if "Quantize" in node.op_type]
        eight = write_qdq(model, CPU, ranges_of(model, bright_clips(48)[0]))
        scores = [predict(trainer.head, infer(graph, frames))[:, 1] for graph in (model, eight)]
        floating, rounded = (-np.log(np.clip(np.where(labels, score, 1 - score), 1e-7, 1)).mean() for score in scores)
        assert floating < 0.01
        losses[name] = rounded - floating, np.abs(scores[1] - scores[0]).mean()
    assert min(losses["plain"]) > 0.01
    for aware, plain in zip(losses["aware"], losses["plain"], strict=True):
        assert aware < 0.2 * plain


@pytest.mark.parametrize("precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_eight_bits_are_simulated_in_float32_whatever_the_precision_is(tmp_path: Path, precision: str) -> None:
    weights = {}
    for name in ("float32", precision):
        overrides = ("training.epochs=2", "training.batch=8", AWARE, f"training.precision={name}")
        trainer, trunk = trained(tmp_path / name, *overrides, backbone="toy-blocks")
        weights[name] = np.concatenate([value.ravel() for value in trunk.tail.get_weights()])
        assert len(trainer.checkpoints.latest().optimizer) == 3 + 2 * 6 + 3  # ranges behind the optimizer's variables
    np.testing.assert_allclose(weights[precision], weights["float32"], atol=2e-3)


@pytest.mark.slow
def test_a_training_without_it_computes_other_weights_and_has_an_older_name(tmp_path: Path) -> None:
    plain, aware = recipe(), recipe(AWARE)
    assert "quantization_aware" not in plain.identity["fine_tune"]
    assert aware.identity["fine_tune"]["quantization_aware"] is True
    digests = []
    for name, chosen in (("plain", ()), ("aware", (AWARE,))):
        _, trunk = trained(tmp_path / name, "training.epochs=1", "training.batch=8", *chosen, backbone="toy-blocks")
        digests.append([value.tobytes() for value in trunk.tail.get_weights()])
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (1, r"two.bn of toy blocks is a BatchNormalization, whose eight bits are not simulated"),
        (2, r"one.conv of toy blocks has the activation silu, and what comes before it is quantized"),
    ],
)
def test_blocks_that_an_export_computes_in_another_way_are_refused(blocks: int, message: str) -> None:
    with (
        mock.patch.dict(BACKBONES, {"toy-blocks": f"{__name__}:Normalized"}),
        pytest.raises(RecipeError, match=f"quantization_aware must be false: {message}") as caught,
    ):
        trunk_of(recipe(AWARE, f"fine_tune.blocks={blocks}"), RANDOM)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("fine_tune.blocks=0", AWARE), "quantization_aware is for blocks that are trained: set fine_tune.blocks, too"),
        (("fine_tune.quantisation_aware=true",), "did you mean 'quantization_aware'"),
        (("fine_tune.quantization_aware=maybe",), "fine_tune.quantization_aware"),
    ],
)
def test_bad_recipes_are_one_line(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        recipe(*overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames", "ranges"), [("vgg19", 1, 5), ("i3d", 8, 8), ("two-stream", 2, 2), ("efficientnet-lite1", 1, 2)]
)
def test_the_last_block_of_every_backbone_is_simulated(name: str, frames: int, ranges: int) -> None:
    """A range for what each layer reads and for what it gives, and one for both where these are the same tensor."""
    tf: Any = load_tensorflow()
    trunk = Trunk(backbone_of({"name": name, "weights": "random"}), 1, ClipSpec(frames=frames, size=64), RANDOM)
    tail = QuantizedTail(trunk.tail)
    assert len(tail.first_state) == ranges
    steps, dim = trunk.feature_shape(frames)
    shape = (2, steps, dim) if trunk.granularity == "clip" else (2, dim)
    activations = np.random.default_rng(0).gamma(0.5, 1, shape).astype(np.float32)
    weights = [tf.constant(value) for value in trunk.tail.get_weights()]
    _, state = tail.stateless_call(weights, tail.first_state, activations, training=True)
    simulated, _ = tail.stateless_call(weights, state, activations, training=False)
    expected = trunk.tail(activations)
    error = np.linalg.norm(simulated - expected) / np.linalg.norm(expected)
    assert 1e-4 < error < 0.05
