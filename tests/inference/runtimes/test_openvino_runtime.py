"""ONNX files in OpenVINO: the same numbers as in ONNX Runtime, and clear words for what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from vdeploy.core.errors import BundleError, MissingExtraError
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.runtimes.openvino import OpenVinoRuntime


@pytest.fixture
def bundle(tmp_path):
    return make_tiny_bundle(tmp_path / "bundle")


def test_numbers_are_those_of_the_file(bundle):
    pytest.importorskip("openvino")
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), np.uint8)
    found = LocalScorer(bundle, "onnx-fp32", threads=1, runtime="openvino").score(clips)
    np.testing.assert_allclose(found, tiny_probabilities(clips), atol=1e-6)


def test_answers_are_not_overwritten_by_the_next_call(bundle):
    pytest.importorskip("openvino")
    runtime = OpenVinoRuntime(bundle.root / "classifier" / "onnx-fp32" / "model.onnx")
    one, other = np.zeros((1, 4, 8), np.float32), np.ones((1, 4, 8), np.float32)
    first = runtime.infer({"features": one})["probabilities"]
    kept = first.copy()
    assert not np.allclose(runtime.infer({"features": other})["probabilities"], kept)
    np.testing.assert_array_equal(first, kept)


def test_what_does_not_fit_is_refused_in_a_line(bundle, tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "text.onnx").write_text("dear diary")
    with pytest.raises(BundleError, match=r"OpenVINO cannot load .*text\.onnx") as caught:
        OpenVinoRuntime(tmp_path / "text.onnx")
    assert "\n" not in str(caught.value)
    runtime = OpenVinoRuntime(bundle.root / "classifier" / "onnx-fp32" / "model.onnx")
    with pytest.raises(BundleError, match="OpenVINO cannot run"):
        runtime.infer({"features": np.zeros((1, 4, 9), np.float32)})


def test_without_openvino_the_extra_is_named(bundle, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"vdeploy\[openvino\]"):
        OpenVinoRuntime(bundle.root / "classifier" / "onnx-fp32" / "model.onnx")
