"""What Triton says of a model is what was written: it had nothing to fill in."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from tests.triton.conftest import Ports
from vdeploy.bundle import Bundle
from vdeploy.triton.install import TritonInstall
from vdeploy.triton.names import MODELS
from vdeploy.triton.options import ServingOptions
from vdeploy.triton.repository import read_config, write_repository
from vdeploy.triton.server import TritonServer


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
        for model in MODELS:
            url = f"http://127.0.0.1:{ports.http}/v2/models/{model}/config"
            with urllib.request.urlopen(url, timeout=10) as answer:
                told = json_format.ParseDict(json.load(answer), model_config_pb2.ModelConfig())
            assert told == read_config(tmp_path / "r" / model / "config.pbtxt")
