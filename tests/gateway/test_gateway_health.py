"""Liveness and readiness: correct, and independent of the load that they cause."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from testing.running_gateway import Running, running_gateway
from tests.gateway.test_gateway_predict import npy
from vdeploy.gateway.problems import Problem, unavailable
from vdeploy.gateway.readiness import SharedProbe

FRAMES = {"content": npy(np.zeros((4, 32, 32, 3), np.uint8)), "headers": {"Content-Type": "application/octet-stream"}}


def batches(gateway: Running) -> int:
    with gateway.client() as client:
        text = client.get("/metrics").text
    found = re.search(r"^vdeploy_gateway_batch_clips_count (\S+)", text, re.MULTILINE)
    assert found
    return int(float(found[1]))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_head_is_answered_as_get_without_a_body(gateway: Running, path: str):
    with gateway.client() as client:
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Length"] == client.get(path).headers["Content-Length"]


@pytest.mark.slow
def test_hundreds_of_readiness_requests_share_one_probe(bundle_dir: Path, tmp_path: Path):
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), "--max-queue", "1") as gateway:

        def ask(_: int) -> int:
            with gateway.client() as client:
                return client.get("/readyz").status_code

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            asked = pool.map(ask, range(200))
            with gateway.client() as client:
                assert all(client.post("/predict/frames", **FRAMES).status_code == 200 for _ in range(12))
            assert set(asked) == {200}
        assert batches(gateway) <= 12 + 1


@pytest.mark.slow
def test_ready_means_that_a_video_can_be_decoded(bundle_dir: Path, tmp_path: Path):
    options = ("--bundle", str(bundle_dir), "--max-frames", "1")
    with running_gateway(tmp_path / "spool", *options) as gateway, gateway.client() as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "decoder_failed"
        assert client.get("/healthz").status_code == 200
        assert client.post("/predict/frames", **FRAMES).status_code == 200
        assert not gateway.files()


@pytest.mark.slow
def test_modules_in_the_working_directory_are_not_imported_by_decoders(bundle_dir: Path, tmp_path: Path, video: Path):
    for name in ("training", "json", "cv2", "numpy", "av", "typing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('from the working directory')\n")
    script = tmp_path / "bin" / "vdeploy"
    script.parent.mkdir()
    script.write_text("import sys\nfrom vdeploy.cli import main\nsys.exit(main())\n")
    started = running_gateway(
        Path("relative spool"), "--bundle", str(bundle_dir), command=(sys.executable, str(script)), folder=tmp_path
    )
    with started as gateway, gateway.client() as client:
        assert client.get("/readyz").status_code == 200
        assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200


def test_a_probe_is_shared_and_its_result_kept():
    runs = []

    async def probe() -> None:
        runs.append(1)
        await asyncio.sleep(0.05)
        if len(runs) == 1:
            raise unavailable("model_unavailable", "the model does not answer")

    async def ask() -> None:
        shared = SharedProbe(probe, kept_s=0.2)
        first = await asyncio.gather(*(shared.check() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(one, Problem) and one.status == 503 for one in first)
        with pytest.raises(Problem):
            await shared.check()
        assert len(runs) == 1
        await asyncio.sleep(0.25)
        await asyncio.gather(*(shared.check() for _ in range(50)))
        await shared.check()
        assert len(runs) == 2

    asyncio.run(ask())


def test_a_probe_goes_on_when_the_one_who_asked_first_disconnects():
    async def ask() -> None:
        shared = SharedProbe(lambda: asyncio.sleep(0.1))
        first = asyncio.ensure_future(shared.check())
        await asyncio.sleep(0.02)
        second = asyncio.ensure_future(shared.check())
        await asyncio.sleep(0.02)
        first.cancel()
        await second

    asyncio.run(ask())


@pytest.mark.parametrize("params", [{"window_s": 1e-9}, {"window_s": 0.0014}, {"stride_s": 0.001}])
def test_windows_and_strides_have_a_floor(gateway: Running, video: Path, params: dict[str, float]):
    with gateway.client() as client:
        for path in ("/predict", "/streams"):
            answer = client.post(path, files={"video": video.read_bytes()}, params={"timeline": True, **params})
            assert answer.status_code == 422
            assert "greater than or equal to" in answer.json()["error"]["message"]
