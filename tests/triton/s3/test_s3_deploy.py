"""Journal to a bucket that a real Triton reads: proven, undone where they fail or are killed, and nothing lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testing.rollout_clients import Clients, Tally, answers_of
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from testing.waiting import eventually
from tests.triton.conftest import own_ports
from tests.triton.s3.conftest import Store, new_store, set_up
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ClientError, RolloutError
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.deploy import deploy
from vdeploy.triton.deployment.location import open_location
from vdeploy.triton.names import ENSEMBLE_MODEL
from vdeploy.triton.planning.plans import plan_deployment
from vdeploy.triton.repository.version_policy import pinned_version
from vdeploy.triton.server.install import TritonInstall

pytestmark = [pytest.mark.slow, pytest.mark.triton]

CLIPS = np.random.default_rng(3).integers(0, 256, (4, 4, 32, 32, 3), dtype=np.uint8)


@dataclasses.dataclass(frozen=True)
class Site:
    """A server that reads a bucket, and the bundles 0, which it serves before and after each test, and 1."""

    url: str
    store: Store
    bundles: tuple[Bundle, Bundle]

    def run(self, verb: str, *arguments: object) -> Any:
        done = subprocess.run(self.command(verb, *arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def command(self, verb: str, *arguments: object, repository: str = "") -> list[str]:
        target = ("--url", self.url, "--repo", repository or self.store.url, "--json")
        return [sys.executable, "-m", "vdeploy", verb, *map(str, (*arguments, *target))]

    def serving(self) -> int:
        found = self.run("status")
        assert (found["healthy"], found["ready"], found["pending"]) == (True, True, None), found
        assert not [entry for entry in found["versions"] if entry["answers"] and not entry["on_disk"]]
        return int(found["answering"])

    def answers(self, seed: int) -> bool:
        with TritonScorer(self.url) as scorer:
            return bool(np.allclose(scorer.score(CLIPS), tiny_probabilities(CLIPS, seed=seed), rtol=0, atol=1e-6))

    def clients(self) -> Clients:
        return Clients(self.url, CLIPS, answers_of(dict(zip("01", self.bundles, strict=True)), CLIPS), 2)

    def is_up(self) -> bool:
        with contextlib.suppress(ClientError):
            return self.answers(0)
        return False


@pytest.fixture(scope="module")
def site(install: TritonInstall, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, ports = tmp_path_factory.mktemp("site"), own_ports()
    bundles = make_tiny_bundle(folder / "0", seed=0), make_tiny_bundle(folder / "1", seed=1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_up(monkeypatch, folder / "cache")
        site = Site(f"127.0.0.1:{ports.grpc}", new_store(endpoint), bundles)
        command = [sys.executable, "-m", "vdeploy", "serve", bundles[0].root, "--repo", site.store.url, "--launch"]
        command += ["--http-port", ports.http, "--grpc-port", ports.grpc, "--metrics-port", ports.metrics]
        command += ["--triton", install.binary, "--log", folder / "log"]
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT)
        try:
            assert eventually(lambda: process.poll() is not None or site.is_up(), 60)
            assert process.poll() is None, (folder / "output").read_text()
            yield site
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(autouse=True)
def unharmed(site: Site) -> Iterator[None]:
    """No request of two clients is lost or answered wrongly, and version 0 serves in the end."""
    with site.clients() as clients:
        yield
        assert site.answers(0)
        site.serving()
    tally = sum(clients.tallies, Tally())
    assert (tally.wrong, tally.lost, tally.failures) == (0, [], {})


def test_there_and_back_from_another_machine(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = site.run("deploy", site.bundles[1].root)
    assert site.serving() == there["version"]
    assert site.answers(1)
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path))
    back = site.run("rollback")
    assert (back["version"], back["previous"]) == (there["previous"], there["version"])
    assert pinned_version(site.store.get(f"{ENSEMBLE_MODEL}/config.pbtxt").decode()) == back["version"]


def test_wrong_answers_never_serve(site: Site) -> None:
    before = site.serving()
    wrong = golden_clips_of(site.bundles[0], "onnx-fp32", "onnx-fp32")
    with (
        pytest.raises(RolloutError, match=rf"a golden clip wrongly: .*; version {before} serves as before"),
        open_location(site.store.url) as place,
        ModelControl(site.url, before_load=place.publish) as control,
    ):
        deploy(plan_deployment(site.bundles[1], place.root), control, place.root, wrong, name=place.name)
    assert site.serving() == before


def test_a_server_that_reads_another_place(site: Site) -> None:
    elsewhere = f"{site.store.url}/elsewhere"
    command = site.command("deploy", site.bundles[1].root, repository=elsewhere)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"of which {elsewhere} knows nothing: it does not read that repository" in done.stderr.splitlines()[-1]


def test_killed_before_it_answers(site: Site) -> None:
    before = site.serving()
    kill_at("is loaded", site.command("deploy", site.bundles[1].root))
    undone = site.run("rollback")
    assert (undone["version"], undone["undone"] > before) == (before, True)
    assert site.serving() == before


def test_killed_when_it_answers_and_undone_by_the_next(site: Site) -> None:
    kill_at("answers", site.command("deploy", site.bundles[1].root))
    done = site.run("deploy", site.bundles[0].root)
    assert done["undone"] is not None
    assert done["undone"] <= done["version"]


def kill_at(moment: str, arguments: list[str]) -> None:
    """Starts a deployment and kills it when it says so."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("rollout: ") and line.rstrip().endswith(moment):
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()
    assert process.returncode == -signal.SIGKILL
