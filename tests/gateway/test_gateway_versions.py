"""Versions of the model: a share of the requests for a canary, and a server whose model is replaced."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import json
import threading
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from testing.running_gateway import running_gateway
from testing.streams import mjpeg_server
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from testing.waiting import eventually
from tests.gateway.test_gateway_drift import verified_bundle
from tests.gateway.test_gateway_keys import vdeploy
from tests.gateway.test_gateway_predict import npy
from vdeploy.core.errors import UserError
from vdeploy.evaluation.drift import RecentScores
from vdeploy.gateway.keys import KeyFile
from vdeploy.gateway.limits import Limits
from vdeploy.gateway.metrics import Metrics
from vdeploy.gateway.models import open_model
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.router import Router, share_of
from vdeploy.gateway.stream import Stream
from vdeploy.gateway.watching import watch_camera

CLIP = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)
NPY = {"Content-Type": "application/octet-stream"}


class Model:
    """A stand-in with what a router uses of a model."""

    def __init__(self, version: str) -> None:
        self.version, self.users, self.failed, self.closed = version, 0, False, 0
        self.scores, self.replaced = RecentScores(None), threading.Event()

    def close(self) -> None:
        self.closed += 1


def test_shares_are_even_and_the_same_id_gets_the_same_version():
    router = Router(lambda: Model("old"), lambda: Model("new"), percent=20)
    names = [f"request-{number}" for number in range(2000)]

    def versions() -> list[str]:
        found = []
        for name in names:
            with router.lease(name) as model:
                found.append(model.version)
        return found

    first = versions()
    assert first == versions()
    assert 0.17 < Counter(first)["new"] / len(names) < 0.23
    router.shift(60)
    assert all(after == "new" for before, after in zip(first, versions(), strict=True) if before == "new")
    router.shift(100)
    assert set(versions()) == {"new"}
    router.shift(0)
    assert set(versions()) == {"old"}
    assert 0 <= min(map(share_of, names)) < 0.01
    assert 0.99 < max(map(share_of, names)) < 1


def test_a_gateway_without_a_canary_has_no_share_to_give():
    with pytest.raises(Problem, match="no canary"):
        Router(lambda: Model("old")).shift(5)


def test_a_replaced_model_is_closed_when_its_last_request_is_done():
    made = [Model("one"), Model("two"), Model("two"), Model("two")]
    models = iter(made)
    router = Router(lambda: next(models))
    with router.lease("a") as model:
        asyncio.run(router.refresh())
        assert (model.version, model.closed) == ("one", 0)
        assert router.primary is made[1]
    assert made[0].closed == 1
    asyncio.run(router.refresh())
    assert (router.primary, made[2].closed) == (made[1], 1)
    made[1].failed = True
    asyncio.run(router.refresh())
    assert (router.primary, made[1].closed) == (made[3], 1)


def test_a_canary_is_replaced_too():
    made = iter([Model("first"), Model("second")])
    old = Model("old")
    router = Router(lambda: old, lambda: next(made), percent=100)
    asyncio.run(router.refresh())
    assert (router.primary, router.canary.version, old.closed) == (old, "second", 1)


def test_a_model_that_cannot_be_opened_again_stays():
    def opening():
        yield Model("one")
        raise UserError("the server is gone")

    models = opening()
    router = Router(lambda: next(models))
    asyncio.run(router.refresh())
    assert router.primary.version == "one"


def test_a_router_whose_canary_cannot_be_opened_leaves_nothing_open():
    model = Model("one")

    def fail():
        raise UserError("no such bundle")

    with pytest.raises(UserError):
        Router(lambda: model, fail)
    assert model.closed == 1


@pytest.mark.slow
def test_a_camera_goes_on_with_the_model_that_replaces_its_own_and_with_its_threshold(tmp_path: Path, video: Path):
    """The camera breaks off time and again, which ends an event where there is one."""
    bundles = [verified_bundle(tmp_path / str(threshold), threshold=threshold) for threshold in (1.0, 0.0)]
    folders = iter(bundle.root for bundle in bundles)
    limits = Limits()

    async def kinds_until_an_event(address: str) -> list[str]:
        opening = functools.partial(open_model, url=None, limits=limits, on_batch=lambda *_: None)
        router = Router(lambda: opening(bundle=next(folders)))
        stream, seen = Stream(""), list[str]()
        work = functools.partial(watch_camera, address, 0.4, 0.2, limits.decoding)
        with concurrent.futures.ThreadPoolExecutor(1) as threads, contextlib.closing(router):
            run = stream.run(work, router=router, metrics=Metrics(), threads=threads, request_id="a")
            running = asyncio.create_task(run)
            async for notice in stream.read(0):
                kind, data = (line.partition(": ")[2] for line in notice.decode().splitlines()[1:3])
                seen.append(json.loads(data)["reason"] if kind == "lost" else kind)
                if seen.count("window") == 1 and router.primary.version == bundles[0].manifest.digest[:12]:
                    await router.refresh()
                if kind == "event" or len(seen) > 60:
                    stream.cancel()
            await running
        return seen

    with mjpeg_server(video) as camera:
        camera.close_after = 25
        seen = asyncio.run(kinds_until_an_event(f"http://127.0.0.1:{camera.port}/"))
    assert seen.count("the model has been replaced") == 1
    assert seen.index("the model has been replaced") < seen.index("event")


@pytest.mark.slow
def test_a_canary_gets_its_share_from_the_command_line(bundle_dir: Path, tmp_path: Path):
    other = make_tiny_bundle(tmp_path / "other", seed=1).root
    keys = KeyFile(tmp_path / "keys.json")
    client_key, admin_key = keys.add("client"), keys.add("boss", "admin")
    options = ("--bundle", str(bundle_dir), "--canary-bundle", str(other), "--api-keys", str(keys.path))
    with running_gateway(tmp_path / "spool", *options) as gateway:
        headers = {"Authorization": f"Bearer {client_key}"}
        with gateway.client(headers=headers) as client:

            def probability() -> float:
                answer = client.post("/predict/frames", content=npy(CLIP), headers=NPY)
                return answer.json()["violent_probability"]

            old, new = (float(tiny_probabilities(CLIP[np.newaxis], seed=seed)[0, 1]) for seed in (0, 1))
            assert probability() == pytest.approx(old, abs=1e-5)
            assert client.put("/admin/canary", json={"percent": 100}).status_code == 403
            shifted = vdeploy("gateway", "canary", 100, "--gateway", gateway.url, "--key", admin_key)
            assert shifted.stdout.startswith("100 % of the requests go to version"), shifted.stderr
            assert probability() == pytest.approx(new, abs=1e-5)
        refused = vdeploy("gateway", "canary", 5, "--gateway", gateway.url, "--key", client_key)
        assert refused.returncode == 1
        assert "needs a key of an administrator" in refused.stderr
        text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
        assert text.count("vdeploy_gateway_verdicts_total{") == 2
    gone = vdeploy("gateway", "canary", 5, "--gateway", gateway.url)
    assert "no gateway answers" in gone.stderr


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(280)
def test_a_new_version_on_the_server_is_taken_over_without_an_unclean_answer(tmp_path: Path):
    from tests.triton.conftest import own_ports
    from vdeploy.core.errors import ServerError
    from vdeploy.triton.repository.writer import write_repository
    from vdeploy.triton.server.install import find_install
    from vdeploy.triton.server.server import TritonServer

    try:
        install = find_install()
    except ServerError as error:
        pytest.skip(str(error))
    old, new = (make_tiny_bundle(tmp_path / f"bundle{seed}", seed=seed) for seed in (0, 1))
    repository = write_repository(old, tmp_path / "triton_repo")
    ports = own_ports()
    url = f"127.0.0.1:{ports.grpc}"
    secret = KeyFile(tmp_path / "keys.json").add("boss", "admin")
    beside = (
        "--bundle",
        str(old.root),
        "--canary-url",
        url,
        "--canary",
        "50",
        "--api-keys",
        str(tmp_path / "keys.json"),
    )
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            TritonServer(repository, install=install, log_file=tmp_path / "server.log", **ports.as_arguments())
        )
        gateways = [
            stack.enter_context(running_gateway(tmp_path / f"spool{number}", *options))
            for number, options in enumerate([("--url", url), beside])
        ]
        headers = {"Authorization": f"Bearer {secret}"}
        clients = [stack.enter_context(gateway.client(headers=headers)) for gateway in gateways]

        def answers() -> list[httpx.Response]:
            return [client.post("/predict/frames", content=npy(CLIP), headers=NPY) for client in clients]

        for seed, bundle in enumerate((old, new)):
            expected = float(tiny_probabilities(CLIP[np.newaxis], seed=seed)[0, 1])
            for answer in answers():
                assert answer.json()["violent_probability"] == pytest.approx(expected, abs=1e-5)
            version = bundle.manifest.digest[:12]
            assert eventually(lambda: all(one.json()["model"]["version"] == version for one in answers()), 40)  # noqa: B023
            if bundle is old:
                done = vdeploy(
                    *("deploy", new.root, "--url", url, "--repo", repository.root),
                    *("--canary", 100, "--gateway", gateways[1].url, "--gateway-key", secret),
                )
                assert done.returncode == 0, done.stderr
                assert clients[1].get("/admin/canary").json()["percent"] == 100
        server.stop()
        for answer, gateway in zip(answers(), gateways, strict=True):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "model_unavailable"
            assert "Retry-After" in answer.headers
            assert eventually(lambda: gateway.records("model_failed"))  # noqa: B023
            assert not gateway.records("unexpected_error")
