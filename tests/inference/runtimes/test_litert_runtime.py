"""LiteRT: batches in pieces, quantized inputs and outputs by value, and clear words for what does not fit."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.export.tiny_tflite import INPUTS, OUTPUTS, WIDTH, write_tiny_tflite
from vdeploy.core.errors import BundleError, MissingExtraError
from vdeploy.inference.runtimes.litert import LiteRtRuntime


def features(clips: int, steps: int) -> np.ndarray:
    return np.random.default_rng(clips).normal(size=(clips, steps, WIDTH)).astype(np.float32)


@pytest.mark.parametrize(
    ("clips", "steps", "of_file"), [(1, 1, 1), (3, 1, 1), (2, 4, 1), (2, 4, 2), (1, 4, 4), (3, 4, 4)]
)
def test_a_batch_is_computed_piece_by_piece(tmp_path, clips, steps, of_file):
    kernel = write_tiny_tflite(tmp_path / "model.tflite", "fp32", steps=of_file)
    given = features(clips, steps)
    found = LiteRtRuntime(tmp_path / "model.tflite", threads=1).infer({INPUTS: given})
    assert set(found) == {OUTPUTS}
    assert found[OUTPUTS].dtype == np.float32
    np.testing.assert_allclose(found[OUTPUTS], np.tanh(given @ kernel), atol=1e-6)


def test_an_output_for_a_whole_clip_has_no_time_axis(tmp_path):
    kernel = write_tiny_tflite(tmp_path / "model.tflite", "fp32", steps=2, shape=(1, 2 * WIDTH))
    given = features(3, 2)
    found = LiteRtRuntime(tmp_path / "model.tflite", threads=1).infer({INPUTS: given})[OUTPUTS]
    np.testing.assert_allclose(found, np.tanh(given @ kernel).reshape(3, -1), atol=1e-6)


def test_quantized_inputs_and_outputs_mean_the_same_values(tmp_path):
    answers = []
    for io in ("float32", "int8"):
        kernel = write_tiny_tflite(tmp_path / f"{io}.tflite", "int8", io=io)
        answers.append(LiteRtRuntime(tmp_path / f"{io}.tflite", threads=1).infer({INPUTS: features(8, 1)})[OUTPUTS])
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - np.tanh(features(8, 1) @ kernel)).max() < 0.1


def test_values_beyond_the_calibrated_range_saturate(tmp_path):
    write_tiny_tflite(tmp_path / "model.tflite", "int8", io="int8")
    runtime = LiteRtRuntime(tmp_path / "model.tflite", threads=1)
    answers = [runtime.infer({INPUTS: np.full((1, 1, WIDTH), value, np.float32)})[OUTPUTS] for value in (50, 1e6)]
    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.parametrize("shape", [(1, 3, WIDTH), (1, 2, WIDTH - 1), (2, WIDTH), (0, 2, WIDTH)])
def test_another_shape_is_refused(tmp_path, shape):
    write_tiny_tflite(tmp_path / "model.tflite", "fp32", steps=2)
    with pytest.raises(BundleError, match=r"takes features of shape \[1, 2, 64\] or several of them, not"):
        LiteRtRuntime(tmp_path / "model.tflite", threads=1).infer({INPUTS: np.zeros(shape, np.float32)})


def test_another_name_is_refused(tmp_path):
    write_tiny_tflite(tmp_path / "model.tflite", "fp32")
    with pytest.raises(BundleError, match="takes features, not frames"):
        LiteRtRuntime(tmp_path / "model.tflite", threads=1).infer({"frames": features(1, 1)})


@pytest.mark.parametrize("content", [None, b"dear diary, this is no model"])
def test_a_file_that_cannot_be_loaded_is_refused(tmp_path, content):
    if content:
        (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(BundleError, match=r"LiteRT cannot load .*model\.tflite"):
        LiteRtRuntime(tmp_path / "model.tflite")


def test_without_litert_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vdeploy\[tflite\]'"):
        LiteRtRuntime(tmp_path / "model.tflite")
