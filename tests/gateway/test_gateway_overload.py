"""More load than the gateway can serve: deadlines, early refusals, and what becomes of the queue."""

from __future__ import annotations

import concurrent.futures
import io
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from testing.running_gateway import Running, running_gateway
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from testing.waiting import eventually
from vdeploy.gateway.access import Access
from vdeploy.gateway.batching import Batcher
from vdeploy.gateway.deadlines import HEADER, Deadline
from vdeploy.gateway.decoding.turns import Turns
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.service_times import ServiceTimes
from vdeploy.video.clips import ClipSpec


class Slow:
    """A scorer that takes a fixed time for a batch."""

    spec, classes, threshold = ClipSpec(frames=4, size=32), ("non-violent", "violent"), 0.5

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.batches: list[int] = []
        self.begun = threading.Event()

    def score(self, frames: np.ndarray) -> np.ndarray:
        self.batches.append(len(frames))
        self.begun.set()
        time.sleep(self.seconds)
        return np.full((len(frames), 2), 0.5, np.float32)


CLIP = np.zeros((4, 32, 32, 3), np.uint8)


def within(seconds: float) -> Deadline:
    return Deadline(time.perf_counter() + seconds)


def test_durations_are_averaged_by_size_and_the_nearest_size_stands_for_others() -> None:
    times = ServiceTimes()
    assert times.expect(1) == 0
    times.record(1, 1.0)
    for _ in range(30):
        times.record(1, 2.0)
    times.record(8, 6.0)
    assert times.expect(1) == pytest.approx(2.0, abs=0.01)
    assert (times.expect(3), times.expect(16)) == (times.expect(1), 6.0)


def test_a_clip_that_would_be_late_is_refused_at_once_with_the_time_to_come_back() -> None:
    scorer = Slow(0.1)
    batcher = Batcher(scorer, batch=1)
    batcher.submit(CLIP).result(10)
    accepted = [batcher.submit(CLIP) for _ in range(12)]
    began = time.perf_counter()
    with pytest.raises(Problem) as caught:
        batcher.submit(CLIP, within(0.2))
    assert time.perf_counter() - began < 0.1
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    assert caught.value.headers["Retry-After"] == "2", "13 clips of 0.1 s, less the 0.2 s that it waits"
    assert batcher.submit(CLIP, within(30)).result(30).probability == 0.5
    assert all(future.done() for future in accepted)
    batcher.close()
    assert len(scorer.batches) == 14


def test_a_clip_whose_deadline_passes_in_the_queue_is_never_scored() -> None:
    scorer = Slow(0.3)
    batcher = Batcher(scorer, batch=1)
    first = batcher.submit(CLIP)
    scorer.begun.wait(10)
    late = batcher.submit(CLIP, within(0.1))  # nothing has been measured yet, so it is accepted
    with pytest.raises(Problem) as caught:
        late.result(10)
    assert (caught.value.status, caught.value.code) == (503, "deadline_exceeded")
    assert first.result(10)
    batcher.close()
    assert scorer.batches == [1]


def test_a_slow_moment_does_not_refuse_for_ever() -> None:
    scorer = Slow(0.5)
    batcher = Batcher(scorer, batch=1)
    batcher.submit(CLIP).result(10)
    scorer.seconds = 0.0
    assert batcher.submit(CLIP, within(0.4)).result(10), "an idle scorer is tried, whatever was measured"
    batcher.close()


def test_a_scorer_that_becomes_slow_is_noticed_while_it_works() -> None:
    scorer = Slow(0.05)
    batcher = Batcher(scorer, batch=1)
    batcher.submit(CLIP).result(10)
    scorer.seconds = 1.0
    batcher.submit(CLIP)
    assert eventually(lambda: len(scorer.batches) == 2)
    batcher.submit(CLIP)
    assert batcher.expected_s < 0.4, "so far it may be as fast as before"
    time.sleep(0.4)
    with pytest.raises(Problem, match="after the deadline"):
        batcher.submit(CLIP, within(0.5))
    scorer.seconds = 0.0
    batcher.close()


def test_a_full_queue_says_how_long_it_takes_to_empty() -> None:
    scorer = Slow(0.2)
    batcher = Batcher(scorer, batch=1, capacity=4)
    batcher.submit(CLIP).result(10)
    for _ in range(5):
        batcher.submit(CLIP)
        assert eventually(lambda: len(scorer.batches) > 1)
    with pytest.raises(Problem) as caught:
        batcher.submit(CLIP)
    assert caught.value.code == "busy"
    assert caught.value.headers["Retry-After"] in {"1", "2"}
    batcher.close()


def test_places_that_are_taken_say_how_long_the_wait_is() -> None:
    access = Access(None, limit=1, limit_per_key=1, expected_s=lambda: 6.3)
    with access.slot(None), pytest.raises(Problem) as caught, access.slot(None):
        pass
    assert caught.value.headers["Retry-After"] == "7"


def test_the_wait_for_a_decoder_follows_how_long_the_last_ones_were_held() -> None:
    turns = Turns(["one"], lambda: 1)
    assert turns.expected_s == 0
    with turns.borrow("a", 1, lambda: None):
        time.sleep(0.1)
    assert turns.expected_s == 0, "it is idle"
    with turns.borrow("a", 1, lambda: None):
        assert turns.expected_s == pytest.approx(0.2, abs=0.05), "its turn, and the one before"


def post(client: httpx.Client, clip: np.ndarray, deadline_ms: str) -> tuple[httpx.Response, float]:
    packed = io.BytesIO()
    np.save(packed, clip)
    headers = {"Content-Type": "application/octet-stream", HEADER: deadline_ms}
    began = time.perf_counter()
    answer = client.post("/predict/frames", content=packed.getvalue(), headers=headers)
    return answer, time.perf_counter() - began


@pytest.mark.slow
def test_a_flood_is_answered_in_time_or_refused_in_time(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle", frames=4, dim=1024, work=60)
    clip = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle.root)) as gateway, gateway.client() as client:
        for _ in range(3):
            answer, alone_s = post(client, clip, "60000")
        expected = tiny_probabilities(clip[None], dim=1024)[0, 1]
        assert answer.json()["violent_probability"] == pytest.approx(expected, abs=1e-5)
        deadline_s = 4 * alone_s
        with concurrent.futures.ThreadPoolExecutor(24) as crowd:
            sent = [crowd.submit(post, client, clip, str(1000 * deadline_s)) for _ in range(150)]
            answers = [future.result() for future in sent]
        codes = {answer.json().get("error", {}).get("code", "ok") for answer, _ in answers}
        assert {"ok", "overloaded"} <= codes <= {"ok", "overloaded", "deadline_exceeded"}
        for answer, seconds in answers:
            assert seconds < deadline_s + 2
            assert answer.status_code == 200 or int(answer.headers["Retry-After"]) >= 1
        assert post(client, clip, "1")[0].json()["error"]["code"] == "deadline_exceeded"
        assert 'vdeploy_gateway_refusals_total{code="overloaded"}' in client.get("/metrics").text


@pytest.mark.parametrize("deadline_ms", ["soon", "0", "0.5", "-1", "nan", "inf", "1e12"])
def test_a_deadline_that_is_none_is_refused(gateway: Running, deadline_ms: str) -> None:
    with gateway.client() as client:
        answer, _ = post(client, CLIP, deadline_ms)
    assert answer.status_code == 422
    assert HEADER in answer.json()["error"]["message"]


def test_a_video_that_cannot_be_decoded_in_time_is_given_up(gateway: Running, video: Path) -> None:
    with gateway.client(headers={HEADER: "1"}) as client:
        for timeline in (False, True):
            began = time.perf_counter()
            answer = client.post("/predict", files={"video": video.read_bytes()}, params={"timeline": timeline})
            assert answer.json()["error"]["code"] in {"overloaded", "deadline_exceeded"}
            assert time.perf_counter() - began < 5
