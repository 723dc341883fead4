"""The other ways to run a SavedModel compute what the plain one does."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.core.errors import BundleError
from vdeploy.inference.runtimes.tensorflow_peers import TensorFlowPredict, TensorFlowXla


@pytest.fixture(scope="module")
def brightness(tmp_path_factory):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 3), tf.uint8, name="frames")])
    def mean(frames):
        return {"features": tf.reduce_mean(tf.cast(frames, tf.float32), axis=2)}

    folder = tmp_path_factory.mktemp("saved") / "model"
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": mean})
    return folder


@pytest.mark.parametrize("runtime", [TensorFlowPredict, TensorFlowXla])
def test_bytes_come_in_and_numbers_go_out_by_name(brightness, runtime):
    given = np.arange(18, dtype=np.uint8).reshape(3, 2, 3) * 13
    opened = runtime(brightness)
    for frames in (given, given[:1]):
        found = opened.infer({"frames": frames})
        assert list(found) == ["features"]
        np.testing.assert_allclose(found["features"], frames.mean(axis=2), rtol=1e-6)


def test_what_does_not_fit_is_refused(brightness):
    with pytest.raises(BundleError, match="XLA cannot run"):
        TensorFlowXla(brightness).infer({"pixels": np.zeros((1, 2, 3), np.uint8)})
