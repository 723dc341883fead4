"""Features that are no numbers get an error, not a probability: from the server, and before they are sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from testing.tiny_bundle import make_tiny_bundle
from vdeploy.core.errors import DeployError
from vdeploy.inference.in_process import LocalScorer
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.names import CLASSIFIER_MODEL, FEATURES
from vdeploy.triton.server.server import TritonServer

VALUES = pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])


def features(value: float) -> np.ndarray:
    found = np.ones((1, 4, 8), np.float32)
    found[0, 2, 3] = value
    return found


@VALUES
@pytest.mark.triton
def test_the_served_classifier(server: TritonServer, value: float) -> None:
    with triton.InferenceServerClient(server.url) as client:
        tensor = triton.InferInput(FEATURES, (1, 4, 8), "FP32")
        tensor.set_data_from_numpy(features(value))
        with pytest.raises(triton.InferenceServerException, match="features holds values that are NaN or infinite"):
            client.infer(CLASSIFIER_MODEL, [tensor])
    with TritonScorer(server.url) as scorer:
        with pytest.raises(DeployError, match="NaN or infinite; extract them again"):
            scorer.classify(features(value))
        assert scorer.classify(features(1.0)).sum() == pytest.approx(1)


@VALUES
def test_in_process(tmp_path: Path, value: float) -> None:
    scorer = LocalScorer(make_tiny_bundle(tmp_path / "bundle"), "onnx-fp32")
    with pytest.raises(DeployError, match="NaN or infinite"):
        scorer.classify(features(value))
    assert scorer.classify(features(1.0)).sum() == pytest.approx(1)
