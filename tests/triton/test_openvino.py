"""OpenVINO's files on a real Triton, in the Python backend: the answers of this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testing.openvino_bundle import with_openvino
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from tests.triton.conftest import Ports
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.inference.in_process import LocalScorer
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.deploy import deploy, rollback
from vdeploy.triton.planning.plans import StageRequest, plan_deployment
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

pytestmark = [pytest.mark.slow, pytest.mark.triton]

CLIPS = np.random.default_rng(1).integers(0, 256, (9, 4, 32, 32, 3), dtype=np.uint8)


def test_both_stages_are_served(tmp_path: Path, install: TritonInstall, ports: Ports) -> None:
    pytest.importorskip("openvino")
    bundle = with_openvino(make_tiny_bundle(tmp_path / "bundle"))
    name = "openvino-fp32"
    repository = write_repository(
        bundle, tmp_path / "r", backend="auto", install=install, extractor=name, classifier=name
    )
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()) as server,
        TritonScorer(server.url) as scorer,
    ):
        scores = scorer.score(CLIPS)
    np.testing.assert_allclose(scores, LocalScorer(bundle, name).score(CLIPS), rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores, tiny_probabilities(CLIPS), rtol=0, atol=1e-5)


def test_a_deployment_goes_from_one_runtime_to_the_other_and_back(
    tmp_path: Path, install: TritonInstall, ports: Ports
) -> None:
    pytest.importorskip("openvino")
    bundle = with_openvino(make_tiny_bundle(tmp_path / "bundle"))
    root, name = tmp_path / "r", "openvino-fp32"
    repository = write_repository(bundle, root)
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()) as server,
        ModelControl(server.url, timeout_seconds=60, log_file=server.log_file) as control,
        TritonScorer(server.url) as scorer,
    ):
        golden = golden_clips_of(bundle, name, name)
        request = StageRequest(None, extractor=name, classifier=name)
        assert deploy(plan_deployment(bundle, root, request), control, root, golden).version == 2
        np.testing.assert_allclose(scorer.score(CLIPS), tiny_probabilities(CLIPS), rtol=0, atol=1e-5)
        assert rollback(control, root).version == 1
        np.testing.assert_allclose(scorer.score(CLIPS), tiny_probabilities(CLIPS), rtol=0, atol=1e-5)
