"""Callers of a real server: the right answers over each transport, the server's own counts, memory that is let go."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.grpc as triton

from testing.tiny_bundle import tiny_probabilities
from tests.benchmark.served.conftest import server_of
from vdeploy.benchmark.measure.process import Crashed, Refused, RowProcess
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.subjects import DISTINCT_INPUTS, distinct_inputs
from vdeploy.benchmark.measure.workloads import open_subject
from vdeploy.benchmark.served.callers import open_callers
from vdeploy.benchmark.served.regions import ClientRegion, release_dead_regions
from vdeploy.benchmark.served.statistics import difference, server_times
from vdeploy.core.errors import ClientError
from vdeploy.triton.server.process_group import new_region_prefix
from vdeploy.triton.server.reaper import SHARED_MEMORY

pytestmark = pytest.mark.triton

HOLD_A_REGION = """
import sys
import tritonclient.grpc as triton
from vdeploy.benchmark.served.regions import ClientRegion
region = ClientRegion(triton.InferenceServerClient(sys.argv[1]), sys.argv[1], 4096)
print(region.name, flush=True)
sys.stdin.read()
"""


def job(bundle, url, what="pipeline", **values) -> Job:
    return Job(what, str(bundle.root), "served", None, values.pop("batch", 2), 1, url, **values)


def registered(server) -> list[str]:
    with triton.InferenceServerClient(server.url) as client:
        return list(client.get_system_shared_memory_status().regions)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["grpc", "shared memory"])
def test_every_caller_gets_the_answers_to_its_own_inputs(server, bundle, transport):
    expected = [tiny_probabilities(frames) for frames in distinct_inputs(bundle.manifest, "pipeline", 2)]
    assert len({one.tobytes() for one in expected}) == DISTINCT_INPUTS
    with open_callers(job(bundle, server.url, transport=transport, concurrency=2), bundle) as callers:
        assert len(callers) == 2
        for index in (0, 1, 2, 3, 5):
            answers = [caller(index + place) for place, caller in enumerate(callers)]
            for place, answer in enumerate(answers):
                np.testing.assert_allclose(answer, expected[(index + place) % DISTINCT_INPUTS], atol=1e-5)


@pytest.mark.parametrize("transport", ["grpc", "shared memory"])
def test_the_stages_make_up_the_whole(server, bundle, transport):
    with open_callers(job(bundle, server.url, "extractor", transport=transport, batch=1), bundle) as (extract,):
        features = extract(1)
    assert features.shape == (1, 4, 8)
    assert np.ptp(features) > 0
    with open_callers(job(bundle, server.url, "classifier", transport=transport, batch=1), bundle) as (classify,):
        assert classify(0).sum() == pytest.approx(1)


def test_the_server_counts_the_calls_and_says_where_their_time_went(server, bundle):
    with open_subject(job(bundle, server.url, transport="grpc")) as subject:
        before = subject.counts()
        for index in range(3):
            assert subject.call(index) == {}
        times = server_times(difference(before, subject.counts()))
    assert list(times) == ["extractor", "classifier"]
    for time in times.values():
        assert time.requests == 3
        assert 1 <= time.executions <= 3
        assert 0 < time.compute_infer_ms < time.compute_ms
        assert time.queue_ms > 0


def test_a_stage_that_was_not_called_has_no_times():
    counts = {"requests": 0, "executions": 0, "queue": 0, "compute_input": 0, "compute_infer": 0, "compute_output": 0}
    assert server_times({"extractor": counts}) == {}


def test_a_batch_that_the_server_does_not_take_is_refused(server, bundle):
    refused = pytest.raises(ClientError, match="takes 8 clips a request, not 9; serve with --max-batch 9")
    with refused, open_subject(job(bundle, server.url, batch=9)):
        pass


def test_nothing_of_a_region_can_be_left_in_the_file_system(server):
    with triton.InferenceServerClient(server.url) as client:
        with ClientRegion(client, server.url, 4096) as region:
            assert region.name in registered(server)
            assert not (SHARED_MEMORY / region.name).exists()
        assert region.name not in registered(server)


def test_the_region_of_a_killed_client_is_let_go_by_the_next_one(server):
    command = [sys.executable, "-c", HOLD_A_REGION, server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        name = client.stdout.readline().strip()
        left = SHARED_MEMORY / f"vdeploy-{client.pid}-{new_region_prefix().split('-')[2]}-0-left"
        left.touch()
        release_dead_regions(server.url)
        assert name in registered(server)
        assert left.exists()
        os.kill(client.pid, signal.SIGKILL)
    release_dead_regions(server.url)
    assert name not in registered(server)
    assert not left.exists()


def test_memory_that_is_not_there_is_reported_before_it_is_used(server):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with triton.InferenceServerClient(server.url) as client, contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, before)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
        with pytest.raises(ClientError, match="1 MB of shared memory cannot be allocated in /dev/shm"):
            ClientRegion(client, server.url, 1 << 20)
    assert not list(SHARED_MEMORY.glob(f"vdeploy-{os.getpid()}-*-client"))


@pytest.mark.slow
def test_a_server_that_takes_no_shared_memory_and_one_that_ends(install, bundle, tmp_path):
    """Its shared memory interface wants a key that no client has."""
    with server_of(bundle, install, tmp_path, shared_memory=False) as server:
        with pytest.raises(Refused, match=r"takes no shared memory of clients \(.*--allow-client-shm=true"):
            RowProcess(job(bundle, server.url, transport="shared memory"))
        release_dead_regions(server.url)
        with RowProcess(job(bundle, server.url, transport="grpc", concurrency=2)) as process:
            assert process.device == "server"
            answer = process.ask("window", 0)
            assert answer["server"]["classifier"]["requests"] == 4
            server.stop()
            with pytest.raises(Crashed, match=r"did not answer for violence_detector|InferenceServerException"):
                process.ask("warm", 0)
    assert not list(SHARED_MEMORY.glob(f"vdeploy-{os.getpid()}-*-client"))
