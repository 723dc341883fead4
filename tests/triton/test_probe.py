"""The probe says what Triton's own health does not: whether an inference works."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from testing.waiting import eventually
from tests.triton.conftest import Ports, kill_stub
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ClientError
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.names import EXTRACTOR_MODEL, WINDOW_MODEL
from vdeploy.triton.probe import main, probe
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

pytestmark = pytest.mark.triton


def test_a_working_server(server: TritonServer, capsys: pytest.CaptureFixture[str]):
    assert 0.0 <= probe(server.url) <= 1.0
    assert main([server.url]) == 0
    assert capsys.readouterr().out.startswith("a clip of zeros is violent with probability 0.")


@pytest.mark.slow
@pytest.mark.parametrize("model", [EXTRACTOR_MODEL, WINDOW_MODEL])
def test_a_dead_stage_that_triton_calls_healthy(
    model: str, bundle: Bundle, tmp_path: Path, install: TritonInstall, ports: Ports, capsys: pytest.CaptureFixture[str]
):
    repository = write_repository(bundle, tmp_path / "triton_repo", options=ServingOptions(streams=StreamOptions(1)))
    with TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()) as server:
        assert probe(server.url)
        kill_stub(repository, model)

        def fails() -> bool:
            try:
                probe(server.url, timeout_seconds=10)
            except ClientError:
                return True
            return False

        assert eventually(fails)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports.http}/v2/health/ready") as answer:
            assert answer.status == 200
        assert main([server.url, "--timeout", "10"]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_nothing_there(ports: Ports):
    done = subprocess.run(
        [sys.executable, "-m", "vdeploy.triton.probe", f"127.0.0.1:{ports.grpc}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: no Triton answers at 127.0.0.1:{ports.grpc}; start a server there, or give another HOST:PORT\n"
    )


def test_a_wrong_answer_is_no_health(server: TritonServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TritonScorer, "score", lambda *_: np.zeros((1, 2), np.float32))
    with pytest.raises(ClientError, match="no probabilities"):
        probe(server.url)
