"""Pooling of the LSTM's outputs over time: what it computes, and that it stays one LSTM node in ONNX."""

from __future__ import annotations

import numpy as np
import pytest

from testing.models import build_lstm
from training.recipe import load_recipe
from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.heads.lstm.model import LSTMSettings


def features(clips: int) -> np.ndarray:
    return np.random.default_rng(clips).normal(size=(clips, 6, 10)).astype(np.float32)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_dense_layer_gets_the_pooled_outputs(pooling: str) -> None:
    keras = load_keras()
    model = build_lstm(6, 10, LSTMSettings(units=8, pooling=pooling))
    lstm = model.get_layer("lstm")
    every = keras.layers.LSTM(8, return_sequences=True)
    every.build((None, 6, 10))
    every.set_weights(lstm.get_weights())
    states = every(keras.Model(model.input, lstm.input)(features(3))).numpy()
    expected = states[:, -1] if pooling == "last" else states.mean(axis=1)
    actual = keras.Model(model.input, model.get_layer("dense").input)(features(3)).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_onnx_has_one_lstm_node_and_gives_the_same(pooling: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    from vdeploy.export.onnx.convert import classifier_to_onnx

    model = build_lstm(6, 10, LSTMSettings(units=8, pooling=pooling))
    exported = classifier_to_onnx(model)
    kinds = [node.op_type for node in exported.graph.node]
    assert kinds.count("LSTM") == 1
    assert "Loop" not in kinds
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    for clips in (1, 5):
        (actual,) = session.run(None, {"features": features(clips)})
        np.testing.assert_allclose(actual, model(features(clips)).numpy(), atol=1e-5)


def test_other_poolings_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"head\.pooling: .*'last' or 'mean'"):
        load_recipe("default", ["head.pooling=max"])
