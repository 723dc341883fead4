"""Hundreds of damaged files, random requests, and load that must leave no resource behind."""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from testing.running_gateway import Running, running_gateway
from testing.waiting import eventually
from tests.gateway.mutations import mutated_videos
from tests.gateway.test_gateway_predict import npy
from vdeploy.gateway.deadlines import HEADER
from vdeploy.gateway.keys import KeyFile

pytestmark = pytest.mark.slow

MUTATIONS = int(os.environ.get("VDEPLOY_MUTATIONS", "200"))
WALL_S = 20
NPY = {"Content-Type": "application/octet-stream"}


def is_clean(answer) -> bool:
    """Whether an answer is a score, or a refusal in the documented shape."""
    if answer.status_code == 200:
        return 0 <= answer.json()["violent_probability"] <= 1
    error = answer.json()["error"]
    retried = answer.status_code != 503 or "Retry-After" in answer.headers
    return 400 <= answer.status_code < 500 or (answer.status_code == 503 and retried and error["code"] == "busy")


@pytest.mark.timeout(1800)
def test_damaged_videos_harm_nobody(bundle_dir: Path, tmp_path: Path):
    limits = ("--decode-timeout", str(WALL_S), "--decode-cpu", "10", "--max-pixels", "4000000", "--max-frames", "2000")
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *limits) as gateway:

        def send(item: tuple[str, bytes]) -> tuple[str, int, str]:
            name, content = item
            started = time.monotonic()
            answer = client.post(
                "/predict", files={"video": content}, params={"timeline": len(content) % 2 == 0, "window_s": 0.5}
            )
            assert is_clean(answer), (name, answer.status_code, answer.text)
            assert time.monotonic() - started < 3 * WALL_S, name
            code = "verdict" if answer.status_code == 200 else answer.json()["error"]["code"]
            return name, answer.status_code, code

        with gateway.client() as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(send, mutated_videos(tmp_path / "videos", MUTATIONS)))
            assert client.get("/readyz").status_code == 200
        codes = Counter(code for _, _, code in answers)
        assert len(answers) == MUTATIONS
        assert codes["verdict"] > 0
        assert codes["unreadable_video"] > 0
        by_name = {name: code for name, _, code in answers}
        assert by_name["large frames"] == "resolution_too_high"
        assert by_name["many frames"] == "too_many_frames"
        assert by_name["a hundred streams"] == "verdict"
        assert not gateway.records("unexpected_error")
        assert not gateway.files()
        assert eventually(lambda: len(gateway.children()) <= 2)


def test_requests_made_up_from_the_openapi_document(bundle_dir: Path, tmp_path: Path):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import load_all_checks
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    load_all_checks()
    secret = KeyFile(tmp_path / "keys.json").add("tester", "admin")
    options = ("--bundle", str(bundle_dir), "--api-keys", str(tmp_path / "keys.json"), "--max-upload-mb", "1")
    with running_gateway(tmp_path / "spool", *options) as gateway:
        schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 9
        for operation in operations:

            @given(case=operation.as_strategy())
            @settings(
                max_examples=25,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def attempt(case) -> None:
                case.call_and_validate(
                    headers={"Authorization": f"Bearer {secret}", HEADER: "60000"},  # a shorter one is refused with 503
                    excluded_checks=[positive_data_acceptance],  # random bytes are no video
                    timeout=60,
                )

            attempt()
        assert not gateway.records("unexpected_error")


def test_hundreds_of_requests_leave_nothing_behind(bundle_dir: Path, tmp_path: Path, video: Path):
    clip = npy(np.zeros((4, 32, 32, 3), np.uint8))
    content = video.read_bytes()
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir)) as gateway, gateway.client() as client:

        def send(number: int) -> None:
            if number % 4 == 0:
                assert client.post("/predict/frames", content=clip, headers=NPY).status_code == 200
            elif number % 4 == 1:
                assert client.post("/predict", files={"video": content}, params={"timeline": True}).status_code == 200
            elif number % 4 == 2:
                assert client.post("/predict", files={"video": content[: number * 7]}).status_code == 422
            else:
                begun = client.post("/streams", files={"video": content}).json()
                assert "finished" in client.get(begun["events_url"]).text
                assert client.delete(f"/streams/{begun['id']}").status_code == 204

        def run(count: int) -> None:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(send, range(count)))

        run(100)
        before = Held(gateway)
        run(300)
        assert eventually(lambda: Held(gateway).descriptors <= before.descriptors + 4)
        assert eventually(lambda: Held(gateway).processes <= before.processes)
        assert Held(gateway).megabytes < before.megabytes + 24
        assert not gateway.files()


class Held:
    """Memory, descriptors and processes of a gateway."""

    def __init__(self, gateway: Running) -> None:
        process = Path(f"/proc/{gateway.process.pid}")
        self.descriptors = len(list((process / "fd").iterdir()))
        self.processes = len(gateway.children())
        pages = int((process / "statm").read_text().split()[1])
        self.megabytes = pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
