"""A classifier in half or eight bits behind an extractor in float32, on a real Triton: the answers of this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from tests.triton.conftest import Ports
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.core.files import sha256_of, write_json
from vdeploy.export.onnx.float16 import to_float16
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.quantization.flavours import CPU
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

pytestmark = pytest.mark.slow

CLIPS = np.random.default_rng(1).integers(0, 256, (9, 4, 32, 32, 3), dtype=np.uint8)


def lowered(bundle: Bundle, precision: str) -> Bundle:
    """The bundle with its classifier in another precision too."""
    values = bundle.manifest.model_dump(mode="json")
    model = onnx.load(bundle.root / "classifier" / "onnx-fp32" / "model.onnx")
    for node in model.graph.node:
        node.name = node.output[0]
    if precision == "fp16":
        model = to_float16(model)
    else:
        model = write_qdq(model, CPU, dict.fromkeys(tensors_to_calibrate(model), (-16.0, 16.0)))
    file = bundle.root / "classifier" / f"onnx-{precision}" / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(model.SerializeToString())
    assert inspect_onnx(file).precision == precision
    changed = {
        "format": f"onnx-{precision}",
        "precision": precision,
        "path": file.relative_to(bundle.root).as_posix(),
        "sha256": sha256_of(file),
        "bytes": file.stat().st_size,
    }
    values["artifacts"].append(values["artifacts"][1] | changed)
    write_json(bundle.root / MANIFEST, values)
    return Bundle(bundle.root)


@pytest.mark.triton
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_classifier_in_low_precision_is_served(
    tmp_path: Path, install: TritonInstall, ports: Ports, precision: str
) -> None:
    bundle = lowered(make_tiny_bundle(tmp_path / "bundle"), precision)
    repository = write_repository(bundle, tmp_path / "r", classifier=f"onnx-{precision}")
    extract, classify = (
        onnxruntime.InferenceSession(bundle.root / stage / name / "model.onnx")
        for stage, name in (("extractor", "onnx-fp32"), ("classifier", f"onnx-{precision}"))
    )
    (features,) = extract.run(None, {"frames": CLIPS})
    (expected,) = classify.run(None, {"features": features})
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()) as server,
        TritonScorer(server.url) as scorer,
    ):
        scores = scorer.score(CLIPS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert np.abs(scores - tiny_probabilities(CLIPS)).max() > 1e-6, "it is not the float32 classifier that answers"
