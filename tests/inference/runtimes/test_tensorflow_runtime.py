"""SavedModels in TensorFlow: names, signatures, threads, and clear words for what does not fit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vdeploy.core.errors import BundleError
from vdeploy.inference.runtimes.tensorflow import TensorFlowRuntime


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="features")])
    def double(features):
        return {"probabilities": 2 * features}

    folder = tmp_path_factory.mktemp("saved") / "model"
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": double, "twice": double})
    return folder


@pytest.mark.parametrize("signature", ["serving_default", "twice"])
def test_outputs_come_by_name(doubling, signature):
    given = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = TensorFlowRuntime(doubling, signature=signature).infer({"features": given})
    assert list(found) == ["probabilities"]
    np.testing.assert_array_equal(found["probabilities"], 2 * given)


def test_another_signature_is_refused(doubling):
    with pytest.raises(BundleError, match="has no signature thrice, only serving_default, twice"):
        TensorFlowRuntime(doubling, signature="thrice")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"frames": np.zeros((1, 2), np.float32)}, "it takes features, not frames"),
        ({}, "it takes features, not nothing"),
        ({"features": np.zeros((1, 3), np.float32)}, r"features must be float32 \(None, 2\), not float32 \(1, 3\)"),
        ({"features": np.zeros((1, 2))}, "features must be float32 .*, not float64"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(doubling, inputs, words):
    with pytest.raises(BundleError, match=rf"TensorFlow cannot run .*model \({words}"):
        TensorFlowRuntime(doubling).infer(inputs)


def test_a_folder_that_cannot_be_loaded_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"dear diary, this is no model")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="TensorFlow cannot load"):
            TensorFlowRuntime(folder)


@pytest.mark.slow
def test_threads_are_settled_once_a_process(doubling):
    script = f"""
from pathlib import Path
import numpy as np
from vdeploy.core.errors import BundleError
from vdeploy.inference.runtimes.tensorflow import TensorFlowRuntime

folder = Path({str(doubling)!r})
for threads in (1, 1, None):
    TensorFlowRuntime(folder, threads=threads).infer({{"features": np.zeros((1, 2), np.float32)}})
try:
    TensorFlowRuntime(folder, threads=2)
except BundleError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("TensorFlow computes with 1 threads in this process already, not with 2;")
