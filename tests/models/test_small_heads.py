"""The pooling head and the GRU head compute what they say, are trained as their model is, and lower to ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.normalization import normalize
from vdeploy.models.registry import head_of

SETTINGS: dict[str, dict[str, Any]] = {
    "gru": {"name": "gru", "units": 8, "dense": 4, "dropout": 0.0},
    "gru-last": {"name": "gru", "units": 8, "dense": 4, "dropout": 0.0, "pooling": "last"},
    "linear": {"name": "pooling", "dropout": 0.0},
    "mean": {"name": "pooling", "statistics": "mean", "dropout": 0.0},
    "mlp": {"name": "pooling", "dense": 8, "dropout": 0.0},
    "square-root": {"name": "pooling", "normalization": "square_root", "dropout": 0.0},
}
STEPS, DIM = 5, 12


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, 20, (3, STEPS, DIM)).astype(np.float32)


@pytest.fixture(params=SETTINGS)
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SETTINGS[request.param]


def build(settings: dict[str, Any], steps: int = STEPS):
    load_keras().utils.set_random_seed(0)
    return head_of(settings).build((steps, DIM))


def logits(model, features: np.ndarray) -> np.ndarray:
    keras = load_keras()
    return keras.Model(model.input, model.get_layer("logits").output)(features).numpy()


def test_mean_and_deviation_over_time_of_normalised_features(features):
    model = build(SETTINGS["linear"])
    normal = normalize(features, "float32").numpy()
    statistics = np.concatenate([normal.mean(axis=1), np.sqrt(normal.var(axis=1) + 1e-6)], axis=1)
    kernel, bias = model.get_layer("logits").get_weights()
    assert kernel.shape == (2 * DIM, 2)
    np.testing.assert_allclose(logits(model, features), statistics @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_square_roots_with_their_sign_in_place_of_the_normalisation(features):
    signed = features * np.random.default_rng(1).choice([-1, 1], features.shape).astype(np.float32)
    signed[0, 0, :4] = 0
    model = build(SETTINGS["square-root"])
    roots = np.sign(signed) * np.sqrt(np.abs(signed))
    statistics = np.concatenate([roots.mean(axis=1), roots.std(axis=1)], axis=1)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(logits(model, signed), statistics @ kernel + bias, rtol=1e-2, atol=1e-2)
    # Layer normalisation would take the factor away.
    assert np.abs(logits(model, 4 * signed) - bias - 2 * (logits(model, signed) - bias)).max() < 0.05


def test_square_roots_of_zero_have_a_slope():
    tf = load_tensorflow()
    model = build(SETTINGS["square-root"])
    features = tf.zeros((1, STEPS, DIM))
    with tf.GradientTape() as tape:
        tape.watch(features)
        probability = model(features)[0, 1]
    assert np.isfinite(tape.gradient(probability, features).numpy()).all()


def test_the_order_of_time_does_not_matter_to_pooling_and_does_to_a_gru(features):
    for name, same in (("mlp", True), ("gru", False)):
        model = build(SETTINGS[name])
        difference = np.abs(logits(model, features) - logits(model, features[:, ::-1])).max()
        assert (difference < 1e-5) == same


def test_a_clip_of_one_step_has_no_deviation_and_no_fault(features):
    assert np.isfinite(logits(build(SETTINGS["linear"], 1), features[:, :1])).all()


def test_an_unrolled_gru_is_that_of_keras(features):
    keras = load_keras()
    model = build(SETTINGS["gru"])
    rolled = keras.layers.GRU(8, return_sequences=True, unroll=False)
    normal = normalize(features, "float32")
    rolled(normal)
    rolled.set_weights(model.get_layer("gru").get_weights())
    unrolled = keras.Model(model.input, model.get_layer("gru").output)
    np.testing.assert_allclose(unrolled(features).numpy(), rolled(normal).numpy(), rtol=1e-5, atol=1e-6)


def test_long_clips_are_not_unrolled():
    assert build(SETTINGS["gru"], 65).get_layer("gru").unroll is False
    assert build(SETTINGS["gru"], 64).get_layer("gru").unroll is True


def test_probabilities_survive_saving(settings, features, tmp_path):
    model = build(settings)
    probabilities = model(features).numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    model.save(tmp_path / "head.keras")
    loaded = load_keras().models.load_model(tmp_path / "head.keras")
    np.testing.assert_array_equal(loaded(features).numpy(), probabilities)


def test_a_training_step_computes_the_model(settings, features):
    tf = load_tensorflow()
    model = build(settings)
    step = head_of(settings).training_step((STEPS, DIM), "float32")
    drawn = step.of_replica(step.draw(tf.constant([0, 1]), 3, DIM), slice(0, 3), 0)
    weights = [variable.value for variable in model.trainable_variables]
    taken = normalize(features, "float32") if step.normalized else features
    time_first = tf.transpose(taken, (1, 0, 2))
    probabilities = step.probabilities(weights, time_first, drawn).numpy()
    np.testing.assert_allclose(probabilities, model(features).numpy(), rtol=1e-5, atol=1e-6)


def test_dropout_differs_from_step_to_step_and_is_drawn_from_the_seed(features):
    tf = load_tensorflow()
    settings = {"name": "pooling", "dropout": 0.5}
    model, step = build(settings), head_of(settings).training_step((STEPS, DIM), "float32")
    weights = [variable.value for variable in model.trainable_variables]
    time_first = tf.transpose(normalize(features, "float32"), (1, 0, 2))

    def at(number: int) -> np.ndarray:
        drawn = step.of_replica(step.draw(tf.constant([7, number]), 3, DIM), slice(0, 3), 0)
        return step.probabilities(weights, time_first, drawn).numpy()

    np.testing.assert_array_equal(at(1), at(1))
    assert np.abs(at(1) - at(2)).max() > 1e-4


@pytest.mark.slow
def test_onnx_gives_the_same_probabilities(settings, features):
    ort = pytest.importorskip("onnxruntime")
    from vdeploy.export.lowering.choose import head_onnx

    model = build(settings)
    lowered = head_onnx(model)
    assert not {node.op_type for node in lowered.graph.node} & {"Loop", "Scan", "If"}
    session = ort.InferenceSession(lowered.SerializeToString(), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"features": features})
    np.testing.assert_allclose(probabilities, model(features).numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_gru_of_many_steps_is_lowered_without_a_loop():
    ort = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from vdeploy.export.lowering.choose import head_graph, head_onnx

    steps = 66
    model = build(SETTINGS["gru-last"], steps)
    features = np.random.default_rng(0).gamma(0.5, 20, (2, steps, DIM)).astype(np.float32)
    expected = model(features).numpy()
    lowered = head_onnx(model)
    onnx.checker.check_model(lowered, full_check=True)
    assert not {node.op_type for node in lowered.graph.node} & {"Loop", "Scan", "If"}
    session = ort.InferenceSession(lowered.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"features": features})[0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(head_graph(model)(features).numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name": "pooling", "statistic": "mean"}, r"did you mean 'statistics'"),
        ({"name": "poling"}, r"did you mean 'pooling'"),
        ({"name": "gru", "units": 0}, r"units: Input should be greater than or equal to 1"),
        ({"name": "pooling", "normalization": "power"}, r"normalization: Input should be 'layer' or 'square_root'"),
        ({"name": "gru", "normalization": "square_root"}, r"unknown key head.normalization; known here: name, units"),
        ({"name": "pooling", "statistics": "median"}, r"statistics: Input should be 'mean' or 'mean_std'"),
    ],
)
def test_wrong_settings(values, reason):
    with pytest.raises(RecipeError, match=reason):
        head_of(values)
