"""nginx in front of two real Tritons: it spreads requests, survives the loss of one, and lets nobody change models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from benchmarks.instances import run
from testing.debian import Unavailable
from testing.nginx import find_nginx, nginx_before
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from tests.triton.conftest import own_ports
from vdeploy.core.errors import ServerError
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.names import ENSEMBLE_MODEL
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import find_install
from vdeploy.triton.server.server import TritonServer

pytestmark = [pytest.mark.slow, pytest.mark.triton]

CLIPS = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def program() -> Path:
    try:
        return find_nginx()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[TritonServer]]:
    try:
        install = find_install()
    except ServerError as reason:
        pytest.skip(str(reason))
    repository = write_repository(make_tiny_bundle(tmp_path / "bundle"), tmp_path / "repository")
    running: list[TritonServer] = []
    try:
        for number in range(2):
            server = TritonServer(
                repository, install=install, log_file=tmp_path / f"log{number}", **own_ports().as_arguments()
            )
            server.start()
            running.append(server)
        yield running
    finally:
        for server in running:
            server.stop()


@pytest.fixture
def front(servers: list[TritonServer], program: Path, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    with nginx_before([server.url for server in servers], program, folder) as url:
        yield url


def answered(server: TritonServer) -> int:
    client = triton.InferenceServerClient(server.url)
    statistics = client.get_inference_statistics(ENSEMBLE_MODEL).model_stats
    client.close()
    return int(statistics[0].inference_stats.success.count)


def test_requests_are_spread_and_the_loss_of_a_server_is_not_noticed(front, servers):
    before = [answered(server) for server in servers]
    with TritonScorer(front) as scorer:
        for _ in range(20):
            np.testing.assert_allclose(scorer.score(CLIPS), tiny_probabilities(CLIPS), atol=1e-5)
        assert all(now > then for now, then in zip(map(answered, servers), before, strict=True))
        servers[0].stop()
        for _ in range(20):
            np.testing.assert_allclose(scorer.score(CLIPS), tiny_probabilities(CLIPS), atol=1e-5)


def test_nobody_changes_models_through_it(front):
    client = triton.InferenceServerClient(front)
    with pytest.raises(triton.InferenceServerException, match=r"PERMISSION_DENIED|403"):
        client.unload_model(ENSEMBLE_MODEL)
    with pytest.raises(triton.InferenceServerException, match=r"PERMISSION_DENIED|403"):
        client.get_model_repository_index()
    assert client.is_model_ready(ENSEMBLE_MODEL)
    client.close()


def test_the_benchmark_measures_right_answers(program, tmp_path):
    rows = list(run(make_tiny_bundle(tmp_path / "bundle"), "tiny", [2], clients=2, seconds=0.5))
    assert [(row.instances, row.behind) for row in rows] == [(1, "itself"), (2, "nginx")]
    for row in rows:
        assert row.requests > 0
        assert row.wrong == 0
        assert 0 < row.p50_ms <= row.p99_ms
