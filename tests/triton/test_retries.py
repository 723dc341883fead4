"""Retries: what is sent again, how long it waits, and that retries stay a tenth of the requests."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from testing.tiny_bundle import tiny_probabilities
from tests.triton.conftest import Ports, kill_stub
from vdeploy.artifacts.bundle import Bundle
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.retries import Retries
from vdeploy.triton.names import ENSEMBLE_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

FULL = triton.InferenceServerException("Exceeds maximum queue size", "StatusCode.UNAVAILABLE")
LATE = triton.InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED")
WRONG = triton.InferenceServerException("unexpected shape", "StatusCode.INVALID_ARGUMENT")


class Failing:
    """A request that fails so often, and notes the time that it is given."""

    def __init__(self, error: triton.InferenceServerException, times: int) -> None:
        self.error, self.times = error, times
        self.timeouts: list[float] = []

    def __call__(self, seconds: float) -> str:
        self.timeouts.append(seconds)
        if len(self.timeouts) <= self.times:
            raise self.error
        return "answer"


def test_a_request_that_failed_for_a_moment_is_sent_again_within_its_time() -> None:
    pauses: list[float] = []
    request = Failing(FULL, 2)
    assert Retries(pauses.append).send(request, 60) == "answer"
    assert len(request.timeouts) == 3
    assert request.timeouts == sorted(request.timeouts, reverse=True)
    assert max(request.timeouts) <= 60


def test_pauses_are_fully_jittered_and_grow() -> None:
    firsts, seconds = [], []
    for _ in range(200):
        pauses: list[float] = []
        with pytest.raises(triton.InferenceServerException):
            Retries(pauses.append).send(Failing(FULL, 9), 60)
        firsts.append(pauses[0])
        seconds.append(pauses[1])
    assert min(firsts) < 0.02
    assert 0.18 < max(firsts) <= 0.2
    assert min(seconds) < 0.04
    assert 0.36 < max(seconds) <= 0.4


@pytest.mark.parametrize("error", [LATE, WRONG])
def test_what_will_not_be_better_is_sent_once(error: triton.InferenceServerException) -> None:
    request = Failing(error, 1)
    with pytest.raises(triton.InferenceServerException):
        Retries(lambda _: None).send(request, 60)
    assert len(request.timeouts) == 1


def test_there_is_no_pause_that_outlasts_the_time() -> None:
    request = Failing(FULL, 9)
    began = time.monotonic()
    with pytest.raises(triton.InferenceServerException):
        Retries().send(request, 0.0)
    assert len(request.timeouts) == 1
    assert time.monotonic() - began < 0.1


def test_a_server_that_fails_all_is_asked_a_tenth_more_often() -> None:
    retries, attempts = Retries(lambda _: None), 0
    for _ in range(1000):
        request = Failing(FULL, 9)
        with pytest.raises(triton.InferenceServerException):
            retries.send(request, 60)
        attempts += len(request.timeouts)
    assert 1100 <= attempts <= 1111, "10 from the start, and a tenth"


@pytest.mark.slow
@pytest.mark.triton
def test_a_full_queue_of_a_real_server_is_asked_again(
    bundle: Bundle, tmp_path: Path, install: TritonInstall, ports: Ports
) -> None:
    options = ServingOptions(max_queue=2, latency_budget_ms=20_000)
    repository = write_repository(bundle, tmp_path / "triton_repo", options=options)
    frames = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32, 3), dtype=np.uint8)
    tensor = triton.InferInput("frames", frames.shape, "UINT8")
    tensor.set_data_from_numpy(frames)
    rejected: list[str] = []

    def note(**answer: object) -> None:
        rejected.append(str(answer["error"]))

    def resume(_: float) -> None:
        os.kill(stub, signal.SIGCONT)
        resumed.set()
        time.sleep(1)

    resumed = threading.Event()
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()) as server,
        triton.InferenceServerClient(server.url) as crowd,
        TritonScorer(server.url) as scorer,
    ):
        scorer.score(frames)
        stub = kill_stub(repository, EXTRACTOR_MODEL, signal.SIGSTOP)
        try:
            for _ in range(6):
                for _ in range(4):
                    crowd.async_infer(ENSEMBLE_MODEL, [tensor], note)
                time.sleep(0.05)
            assert any("maximum queue size" in reason for reason in rejected)
            scorer._retries = Retries(resume)
            np.testing.assert_allclose(scorer.score(frames), tiny_probabilities(frames), rtol=0, atol=1e-6)
            assert resumed.is_set(), "it was rejected first"
        finally:
            os.kill(stub, signal.SIGCONT)
