"""What Triton says of a model is what was written: it had nothing to fill in."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from testing.tiny_bundle import tiny_probabilities
from tests.triton.conftest import Ports
from vdeploy.artifacts.bundle import Bundle
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.repository.model_set import PLAIN
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.repository import read_config
from vdeploy.triton.repository.stage_config import GPU_RESOURCE
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

pytestmark = pytest.mark.slow


@pytest.mark.triton
@pytest.mark.parametrize(
    "options",
    [
        ServingOptions(),
        ServingOptions(
            instances=2, threads=1, loaded_versions=2, warmup_batches=(1, 8), latency_budget_ms=50, max_queue=9
        ),
    ],
    ids=["defaults", "everything"],
)
def test_triton_fills_in_nothing(
    bundle: Bundle, tmp_path: Path, install: TritonInstall, ports: Ports, options: ServingOptions
) -> None:
    repository = write_repository(bundle, tmp_path / "r", options=options)
    with TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()):
        for model in PLAIN.models:
            url = f"http://127.0.0.1:{ports.http}/v2/models/{model}/config"
            with urllib.request.urlopen(url, timeout=10) as answer:
                told = json_format.ParseDict(json.load(answer), model_config_pb2.ModelConfig())
            assert told == read_config(tmp_path / "r" / model / "config.pbtxt")


@pytest.mark.triton
def test_stages_that_take_turns_answer(bundle: Bundle, tmp_path: Path, install: TritonInstall, ports: Ports) -> None:
    repository = write_repository(bundle, tmp_path / "r")
    for model in PLAIN.models[:2]:
        file = tmp_path / "r" / model / "config.pbtxt"
        config = read_config(file)
        config.instance_group[0].rate_limiter.resources.add(name=GPU_RESOURCE, count=1)
        file.write_text(text_format.MessageToString(config))
    clips = np.random.default_rng(2).integers(0, 256, (20, 4, 32, 32, 3), dtype=np.uint8)
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()) as server,
        TritonScorer(server.url) as scorer,
    ):
        np.testing.assert_allclose(scorer.score(clips), tiny_probabilities(clips), rtol=0, atol=1e-6)
    assert re.search(r"rate_limit *\| EXEC_COUNT", (tmp_path / "log").read_text())
