"""Journal on a real Triton: proven before they serve, undone where they fail or are killed, and nothing lost."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from testing.rollout_clients import Clients, Tally, answers_of
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from testing.waiting import eventually
from tests.triton.conftest import Ports, kill_stub, own_ports, processes_with, program_of
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.bundle.golden import GoldenClips
from vdeploy.core.errors import ClientError, RepositoryError, RolloutError, ServerError, UserError
from vdeploy.core.files import sha256_of, write_json
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.deploy import Deployed, deploy, rollback
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.running import running_options
from vdeploy.triton.deployment.status import read_status
from vdeploy.triton.names import CLASSIFIER_MODEL, DEPLOYMENTS, ENSEMBLE_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.planning.plans import StageRequest, plan_deployment
from vdeploy.triton.repository import writer as repository_writer
from vdeploy.triton.repository.model_set import PLAIN
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

CLIPS = np.random.default_rng(3).integers(0, 256, (4, 4, 32, 32, 3), dtype=np.uint8)


@dataclasses.dataclass
class Site:
    """A running server, its repository, and the bundles 0 and 1."""

    server: TritonServer
    repository: Repository
    bundles: tuple[Bundle, Bundle]
    timeout: float = 30.0

    @property
    def root(self) -> Path:
        return self.repository.root

    def control(self) -> ModelControl:
        return ModelControl(
            self.server.url,
            timeout_seconds=self.timeout,
            log_file=self.server.log_file,
        )

    def deploy(
        self, seed: int, golden: GoldenClips | None = None, root: Path | None = None, **changes: Any
    ) -> Deployed:
        bundle = self.bundles[seed]
        golden = golden or golden_clips_of(bundle, "onnx-fp32", "onnx-fp32")
        with self.control() as control:
            plan = plan_deployment(bundle, root or self.root, StageRequest(None, changes=changes))
            return deploy(plan, control, root or self.root, golden)

    def rollback(self) -> Deployed:
        with self.control() as control:
            return rollback(control, self.root)

    def serving(self) -> tuple[int | None, list[int]]:
        """The version that answers, and the versions that the three models have on disk."""
        with self.control() as control:
            found = read_status(control, self.root)
            assert found.healthy, found.problem
            assert found.ready
            assert found.pending is None
        for model in PLAIN.models:
            assert sorted(int(entry.name) for entry in (self.root / model).iterdir() if entry.name.isdecimal()) == (
                Journal(self.root).versions()
            )
        assert not list(self.root.rglob("*.tmp"))
        return found.answering, Journal(self.root).versions()

    def answers(self, seed: int) -> bool:
        with TritonScorer(self.server.url) as scorer:
            return bool(np.allclose(scorer.score(CLIPS), tiny_probabilities(CLIPS, seed=seed), rtol=0, atol=1e-6))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return make_tiny_bundle(folder / "0", seed=0), make_tiny_bundle(folder / "1", seed=1)


@contextlib.contextmanager
def started(bundles: tuple[Bundle, Bundle], folder: Path, install: TritonInstall) -> Iterator[Site]:
    """A server that serves bundle 0, killed at the end: an orderly end, at which test_server looks, takes seconds."""
    repository = write_repository(bundles[0], folder / "triton_repo")
    with TritonServer(repository, install=install, log_file=folder / "log", **own_ports().as_arguments()) as server:
        try:
            yield Site(server, repository, bundles)
        finally:
            with contextlib.suppress(ServerError, ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def site(bundles: tuple[Bundle, Bundle], install: TritonInstall, tmp_path: Path) -> Iterator[Site]:
    """A server that serves bundle 0."""
    with started(bundles, tmp_path, install) as site:
        yield site


@pytest.fixture(scope="module")
def untouched_sites(
    bundles: tuple[Bundle, Bundle], install: TritonInstall, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Site]]:
    """Gives one server again and again, and another one where a test did not leave it as it was."""
    found: list[Site] = []
    with contextlib.ExitStack() as stack:

        def untouched() -> Site:
            if not (found and is_untouched(found[-1])):
                stack.close()
                found.append(stack.enter_context(started(bundles, tmp_path_factory.mktemp("site"), install)))
            return found[-1]

        yield untouched


@pytest.fixture
def shared_site(untouched_sites: Callable[[], Site]) -> Site:
    """A server that serves bundle 0, for tests that leave it so."""
    return untouched_sites()


def is_untouched(site: Site) -> bool:
    try:
        return site.serving() == (1, [1]) and site.answers(0)
    except (AssertionError, UserError):
        return False


def damaged(bundle: Bundle, folder: Path, content: bytes) -> Bundle:
    """A bundle whose classifier is what it says it is, but no model."""
    shutil.copytree(bundle.root, folder)
    values = json.loads((folder / MANIFEST).read_text())
    file = folder / values["artifacts"][1]["path"]
    file.write_bytes(content)
    values["artifacts"][1]["sha256"] = sha256_of(file)
    write_json(folder / MANIFEST, values)
    return Bundle(folder)


def tampered_with(bundle: Path) -> None:
    file = next(bundle.rglob("model.onnx"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def of_a_newer_version(bundle: Path) -> None:
    values = json.loads((bundle / MANIFEST).read_text())
    write_json(bundle / MANIFEST, values | {"schema_version": "3.0"})


@pytest.mark.triton
class TestOneServer:
    def test_there_and_back_under_load(self, site: Site) -> None:
        expected = answers_of(dict(zip("01", site.bundles, strict=True)), CLIPS)
        with Clients(site.server.url, CLIPS, expected, 4) as clients:
            there = site.deploy(1)
            assert site.serving() == (there.version, [*range(1, there.version + 1)])
            assert site.answers(1)
            back = site.rollback()
        tally = sum(clients.tallies, Tally())
        assert (back.version, back.previous) == (there.previous, there.version)
        assert site.serving()[0] == back.version
        assert site.answers(0)
        assert min(tally.answers["0"], tally.answers["1"]) > 20
        assert (tally.wrong, tally.lost, tally.failures) == (0, [], {})
        assert there.proof is not None
        assert there.proof.deviation < 1e-6

    @pytest.mark.slow
    def test_options_change_under_load_and_come_back(self, site: Site) -> None:
        expected = answers_of(dict(zip("01", site.bundles, strict=True)), CLIPS)
        served = running_options(Journal(site.root))
        with Clients(site.server.url, CLIPS, expected, 2) as clients:
            site.deploy(1, max_batch=5, threads=1, instances=2, loaded_versions=2)
            assert site.serving() == (2, [1, 2])
            with site.control() as control:
                assert control.states(EXTRACTOR_MODEL) == {1: "READY", 2: "READY"}
                assert control.states(ENSEMBLE_MODEL)[2] == "READY"
            changed = {"max_batch": 5, "threads": 1, "instances": 2, "loaded_versions": 2}
            assert running_options(Journal(site.root)) == dataclasses.replace(served, **changed)
            assert site.repository.max_batch_size() == 5
            site.rollback()
        tally = sum(clients.tallies, Tally())
        assert (tally.wrong, tally.lost, tally.failures) == (0, [], {})
        assert site.serving()[0] == 1
        assert running_options(Journal(site.root)) == served
        assert site.repository.max_batch_size() == 8

    @pytest.mark.slow
    def test_wrong_answers_never_serve(self, shared_site: Site) -> None:
        before = shared_site.serving()
        wrong = golden_clips_of(shared_site.bundles[0], "onnx-fp32", "onnx-fp32")
        expected = answers_of(dict(zip("01", shared_site.bundles, strict=True)), CLIPS)
        with (
            Clients(shared_site.server.url, CLIPS, expected, 2) as clients,
            pytest.raises(
                RolloutError, match=r"a golden clip wrongly: .* 0.001 is allowed; version 1 serves as before"
            ),
        ):
            shared_site.deploy(1, wrong)
        tally = sum(clients.tallies, Tally())
        assert (tally.answers["1"], tally.wrong, tally.failures) == (0, 0, {})
        assert shared_site.serving() == before

    @pytest.mark.slow
    def test_a_model_that_cannot_be_loaded(self, shared_site: Site, tmp_path: Path) -> None:
        before = shared_site.serving()
        bundle = damaged(shared_site.bundles[1], tmp_path / "bundle", b"\x72\x04junk")
        golden = golden_clips_of(shared_site.bundles[1], "onnx-fp32", "onnx-fp32")
        with (
            shared_site.control() as control,
            pytest.raises(
                RolloutError, match=rf"{CLASSIFIER_MODEL} cannot be loaded: .*INVALID_PROTOBUF.*; version 1 serves"
            ) as caught,
        ):
            deploy(plan_deployment(bundle, shared_site.root), control, shared_site.root, golden)
        assert "\n" not in str(caught.value)
        assert shared_site.serving() == before
        assert shared_site.answers(0)

    def test_a_server_that_reads_another_repository(self, shared_site: Site, tmp_path: Path) -> None:
        before = shared_site.serving()
        write_repository(shared_site.bundles[0], tmp_path / "other")
        with pytest.raises(RolloutError, match=rf"it does not read {tmp_path}/other"):
            shared_site.deploy(1, root=tmp_path / "other")
        assert Journal(tmp_path / "other").versions() == [1]
        assert shared_site.serving() == before

    def test_a_server_that_reads_another_repository_than_an_empty_one(self, shared_site: Site, tmp_path: Path) -> None:
        before = shared_site.serving()
        told = rf"serves version {before[0]}, of which {tmp_path}/none knows nothing: it does not read that repository"
        with pytest.raises(RolloutError, match=told):
            shared_site.deploy(1, root=tmp_path / "none")
        assert shared_site.serving() == before

    def test_other_tensors_are_refused_before_anything_changes(self, shared_site: Site, tmp_path: Path) -> None:
        before = shared_site.serving()
        bundle = make_tiny_bundle(tmp_path / "wide", dim=16)
        golden = golden_clips_of(bundle, "onnx-fp32", "onnx-fp32")
        with (
            shared_site.control() as control,
            pytest.raises(RolloutError, match=f"{EXTRACTOR_MODEL} has other tensors"),
        ):
            deploy(plan_deployment(bundle, shared_site.root), control, shared_site.root, golden)
        assert shared_site.serving() == before

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (tampered_with, "is not the file that was exported"),
            (of_a_newer_version, "has schema version 3.0, this vdeploy reads"),
        ],
    )
    def test_a_bundle_that_is_not_what_it_should_be(
        self, shared_site: Site, tmp_path: Path, change: Callable[[Path], None], told: str
    ) -> None:
        before = shared_site.serving()
        shutil.copytree(shared_site.bundles[1].root, tmp_path / "bundle")
        change(tmp_path / "bundle")
        done = subprocess.run(
            command("deploy", tmp_path / "bundle", shared_site), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert told in done.stderr
        assert shared_site.serving() == before

    def test_one_at_a_time(self, shared_site: Site) -> None:
        with (
            Journal(shared_site.root).exclusive(),
            pytest.raises(RepositoryError, match="is being deployed to; wait until that is done"),
        ):
            shared_site.deploy(1)

    def test_a_look_at_the_lock_keeps_nobody_out(self, shared_site: Site) -> None:
        deployments = Journal(shared_site.root)
        assert not deployments.goes_on()
        with deployments.exclusive():
            assert deployments.goes_on()
        assert not deployments.goes_on()
        looking = (shared_site.root / DEPLOYMENTS / "lock").open()
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.03, looking.close).start()
        with deployments.exclusive():
            assert deployments.goes_on()

    @pytest.mark.slow
    def test_a_full_disk(self, shared_site: Site) -> None:
        before = shared_site.serving()
        done = subprocess.run(
            command("deploy", shared_site.bundles[1].root, shared_site),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert "File too large" in done.stderr
        assert shared_site.serving() == before

    def test_the_reason_that_only_the_log_tells(self, shared_site: Site) -> None:
        config = shared_site.root / EXTRACTOR_MODEL / "config.pbtxt"
        text = config.read_text()
        try:
            config.write_text("max_batch_size: many")
            with shared_site.control() as control, pytest.raises(RolloutError, match=r"config.pbtxt.*Expected integer"):
                control.load(EXTRACTOR_MODEL)
        finally:
            config.write_text(text)
            with shared_site.control() as control:
                control.load(EXTRACTOR_MODEL)
        assert shared_site.answers(0)

    @pytest.mark.parametrize(
        "moment",
        [
            "answers",
            *(
                pytest.param(moment, marks=pytest.mark.slow)
                for moment in ("is on disk", "is loaded", "is proven", "is retired")
            ),
        ],
    )
    def test_killed_at_any_moment(self, site: Site, moment: str) -> None:
        answering, on_disk = site.serving()
        expected = answers_of(dict(zip("01", site.bundles, strict=True)), CLIPS)
        with unless_triton_ends(site), Clients(site.server.url, CLIPS, expected, 2) as clients:
            kill_at(moment, command("deploy", site.bundles[1].root, site))
            undone = json.loads(vdeploy("rollback", "--url", site.server.url, "--repo", site.root, "--json"))
        tally = sum(clients.tallies, Tally())
        assert (tally.wrong, tally.lost, tally.failures) == (0, [], {})
        assert (undone["version"], undone["undone"]) == (answering, max(on_disk) + 1)
        now, kept = site.serving()
        assert now == answering
        assert set(on_disk) <= set(kept)
        assert site.answers(0)


@pytest.fixture(scope="module")
def another_model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of another backbone and another head, for longer and smaller clips."""
    folder = tmp_path_factory.mktemp("another") / "bundle"
    return make_tiny_bundle(folder, frames=6, size=48, dim=5, architectures=("efficientnet-lite0", "pooling"))


OTHER_STAGES = ("efficientnet_lite0_features", "pooling_classifier")
OTHER_CLIPS = np.random.default_rng(4).integers(0, 256, (3, 6, 48, 48, 3), dtype=np.uint8)


@pytest.mark.triton
class TestAnotherModel:
    """Bundle 0 is replaced by a bundle of other stages, and comes back."""

    def answers(self, site: Site) -> bool:
        with TritonScorer(site.server.url) as scorer:
            found = scorer.score(OTHER_CLIPS)
        return bool(np.allclose(found, tiny_probabilities(OTHER_CLIPS, dim=5), rtol=0, atol=1e-6))

    def loaded(self, site: Site) -> set[str]:
        models = (*PLAIN.models, *OTHER_STAGES)
        with site.control() as control:
            return {model for model in models if "READY" in control.states(model).values()}

    def deploy(self, site: Site, bundle: Bundle) -> Deployed:
        golden = golden_clips_of(bundle, "onnx-fp32", "onnx-fp32")
        with site.control() as control:
            return deploy(plan_deployment(bundle, site.root), control, site.root, golden)

    def status(self, site: Site) -> tuple[int | None, bool]:
        with site.control() as control:
            found = read_status(control, site.root)
            return found.answering, found.healthy

    @pytest.mark.slow
    def test_there_and_back(self, site: Site, another_model: Bundle) -> None:
        assert site.answers(0)
        there = self.deploy(site, another_model)
        assert (there.version, there.previous) == (2, 1)
        assert self.answers(site)
        assert self.loaded(site) == {*OTHER_STAGES, ENSEMBLE_MODEL}
        assert self.status(site) == (2, True)
        back = site.rollback()
        assert (back.version, back.previous) == (1, 2)
        assert site.answers(0)
        assert self.loaded(site) == set(PLAIN.models)
        assert self.status(site) == (1, True)
        third = site.deploy(1)
        assert (third.version, third.previous) == (3, 1)
        assert site.answers(1)
        fourth = self.deploy(site, another_model)
        assert (fourth.version, fourth.previous) == (4, 3)
        assert self.answers(site)
        assert Journal(site.root).versions() == [1, 2, 3, 4]

    @pytest.mark.slow
    def test_a_backbone_with_weights_of_its_run_is_another_model(self, site: Site, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "pruned", seed=1, variant="1a2b3c4d")
        self.deploy(site, bundle)
        assert site.answers(1)
        with site.control() as control:
            assert "READY" in control.states("vgg19_1a2b3c4d_features").values()
            assert "READY" not in control.states(EXTRACTOR_MODEL).values()
        assert not (site.root / EXTRACTOR_MODEL / "2").exists()
        site.rollback()
        assert site.answers(0)

    @pytest.mark.slow
    def test_the_watch_looks_after_the_new_stages_and_a_new_server_serves_them(
        self, site: Site, another_model: Bundle
    ) -> None:
        self.deploy(site, another_model)
        kill_stub(site.repository, OTHER_STAGES[0])
        assert eventually(lambda: OTHER_STAGES[0] in site.server.heal())
        assert self.answers(site)
        site.server.stop()
        site.server.start()
        assert self.answers(site)
        assert self.loaded(site) == {*OTHER_STAGES, ENSEMBLE_MODEL}

    @pytest.mark.slow
    def test_a_model_that_fails_leaves_nothing(self, site: Site, another_model: Bundle, tmp_path: Path) -> None:
        site.deploy(1)
        broken = damaged(another_model, tmp_path / "broken", b"\x72\x04junk")
        golden = golden_clips_of(another_model, "onnx-fp32", "onnx-fp32")
        told = r"version 3 was not taken into service: .*; version 2 serves as before"
        with site.control() as control, pytest.raises(RolloutError, match=told):
            deploy(plan_deployment(broken, site.root), control, site.root, golden)
        assert site.answers(1)
        assert site.serving() == (2, [1, 2])
        assert not any((site.root / stage).exists() for stage in OTHER_STAGES)

    @pytest.mark.slow
    @pytest.mark.parametrize("moment", ["is on disk", "is loaded", "is proven", "answers", "is retired"])
    def test_killed_at_any_moment(self, site: Site, another_model: Bundle, moment: str) -> None:
        kill_at(moment, command("deploy", another_model.root, site))
        undone = site.deploy(1)
        assert undone.undone in {2, None}
        assert site.answers(1)
        assert self.loaded(site) == set(PLAIN.models)
        assert self.status(site) == (undone.version, True)

    @pytest.mark.slow
    def test_a_head_of_the_same_name_with_other_tensors_is_refused(self, shared_site: Site, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "wide", dim=16, architectures=("efficientnet-lite0", "lstm"))
        before = shared_site.serving()
        with pytest.raises(RolloutError, match=f"the bundle's {CLASSIFIER_MODEL} has other tensors"):
            self.deploy(shared_site, bundle)
        assert shared_site.serving() == before


@pytest.mark.triton
class TestStatus:
    @pytest.mark.slow
    def test_of_a_repository(self, shared_site: Site) -> None:
        shown = json.loads(vdeploy("status", "--url", shared_site.server.url, "--repo", shared_site.root, "--json"))
        assert (shown["answering"], shown["healthy"], shown["run"]) == (1, True, "tiny")
        assert shown["versions"][0]["answers"]
        table = vdeploy("status", "--url", shared_site.server.url, "--repo", shared_site.root)
        assert "version 1 (tiny) answers" in table
        assert "healthy" in table

    @pytest.mark.slow
    def test_of_a_server_alone(self, shared_site: Site) -> None:
        with shared_site.control() as control:
            found = read_status(control)
        assert (found.answering, found.healthy) == (1, True)
        assert {entry.on_disk for entry in found.versions} == {None}

    @pytest.mark.slow
    def test_of_a_repository_that_the_server_does_not_read(self, site: Site, tmp_path: Path) -> None:
        site.deploy(1)
        other = write_repository(site.bundles[0], tmp_path / "other").root
        with site.control() as control:
            found = read_status(control, other)
        assert not found.healthy
        assert found.problem == f"version 2 answers, which {other} does not hold: the server reads another repository"

    def test_of_a_repository_that_is_not_there(self, shared_site: Site, tmp_path: Path) -> None:
        with shared_site.control() as control, pytest.raises(RepositoryError, match="there is no model repository"):
            read_status(control, tmp_path / "nowhere")

    def test_no_server(self, ports: Ports) -> None:
        with pytest.raises(ClientError, match=r"no Triton answers at 127.0.0.1"):
            ModelControl(f"127.0.0.1:{ports.grpc}")


@pytest.mark.slow
@pytest.mark.triton
class TestServersThatBreak:
    def test_a_stage_that_has_died_is_replaced(self, site: Site) -> None:
        kill_stub(site.repository, EXTRACTOR_MODEL)
        with site.control() as control:
            found = read_status(control, site.root)
            assert not found.healthy
            assert "is not healthy" in found.problem
        assert "NOT healthy" in vdeploy("status", "--url", site.server.url, code=1)
        assert site.deploy(1).version == 2
        assert site.answers(1)

    def test_a_stage_that_dies_during_a_deployment_is_left_to_it(self, site: Site) -> None:
        with Journal(site.root).exclusive():
            kill_stub(site.repository, EXTRACTOR_MODEL)
            assert site.server.heal() == ()
        assert site.server.heal() == (EXTRACTOR_MODEL,)
        assert site.answers(0)

    @pytest.mark.parametrize("moment", ["is on disk", "is loaded", "answers"])
    def test_triton_crashes_during_a_deployment(self, site: Site, moment: str) -> None:
        """It fails and goes back, or, where the server is back in time, succeeds; what it says is so."""
        watcher = threading.Thread(target=site.server.watch, kwargs={"interval_seconds": 0.2})
        watcher.start()
        program = program_of(site.server, site.root)
        try:
            told, code = signal_at(moment, command("deploy", site.bundles[1].root, site), program, signal.SIGSEGV)
            assert eventually(lambda: site.server.restarts == 1, seconds=20)
            if code:
                assert told[-1].startswith("error: version 2 was not taken into service: ")
                assert "; version 1 serves as before" in told[-1]
            assert site.serving()[0] == (1 if code else 2), told
            assert site.answers(0 if code else 1)
        finally:
            site.server.stop()
            watcher.join()

    def test_the_version_before_is_revived(self, site: Site) -> None:
        site.deploy(1)
        kill_stub(site.repository, EXTRACTOR_MODEL)
        golden = golden_clips_of(site.bundles[1], "onnx-fp32", "onnx-fp32")
        with pytest.raises(RolloutError, match=r"version 3 was not taken into service: .*version 2 serves as before"):
            site.deploy(0, golden)
        assert site.answers(1)
        assert site.serving()[0] == 2

    def test_a_load_that_hangs(self, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        code = tmp_path / "model.py"
        code.write_text("import time\ntime.sleep(1000)\n")
        monkeypatch.setattr(repository_writer, "_CODE", code)
        site.timeout = 3.0
        with pytest.raises(RolloutError, match=r"Triton was not done after 3 s; version 1 serves as before"):
            site.deploy(1)
        assert Journal(site.root).versions() == [1]
        assert site.answers(0)

    def test_an_empty_server(self, site: Site) -> None:
        with site.control() as control:
            for model in reversed(PLAIN.models):
                control.unload(model)
            shutil.rmtree(site.root)
            wrong = golden_clips_of(site.bundles[0], "onnx-fp32", "onnx-fp32")
            with pytest.raises(RolloutError, match=r"a golden clip wrongly: .*; nothing serves, as before"):
                site.deploy(1, wrong)
            assert Journal(site.root).active() is None
            assert Journal(site.root).versions() == []
            assert read_status(control, site.root).answering is None
        first = site.deploy(1)
        assert (first.version, first.previous) == (1, None)
        assert site.serving() == (1, [1])
        with pytest.raises(RolloutError, match="there is nothing to go back to: version 1, which took over from none"):
            site.rollback()

    def test_a_server_started_after_a_kill_serves_one_version(
        self, site: Site, install: TritonInstall, tmp_path: Path
    ) -> None:
        for moment in ("is loaded", "answers"):
            kill_at(moment, command("deploy", site.bundles[1].root, site))
            root = tmp_path / moment.replace(" ", "-")
            shutil.copytree(site.root, root)
            copy = dataclasses.replace(site.repository, root=root)
            arguments = own_ports().as_arguments() | {"log_file": root / "log"}
            with TritonServer(copy, install=install, **arguments) as server:
                copied = dataclasses.replace(site, server=server, repository=copy)
                assert copied.answers(1 if moment == "answers" else 0)
            site.rollback()
            assert site.serving()[0] == 1

    def test_a_server_that_is_started_anew_serves_what_was_chosen(
        self, site: Site, install: TritonInstall, tmp_path: Path
    ) -> None:
        site.deploy(1)
        site.rollback()
        root = tmp_path / "copy"
        shutil.copytree(site.root, root)
        ports = own_ports()
        arguments = ["serve", "--repo", root, "--launch", "--triton", install.binary, "--log", tmp_path / "log2"]
        arguments += ["--http-port", ports.http, "--grpc-port", ports.grpc, "--metrics-port", 0]
        started = [sys.executable, "-m", "vdeploy", *map(str, arguments)]
        with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().startswith(f"ready: gRPC 127.0.0.1:{ports.grpc}")
                with TritonScorer(f"127.0.0.1:{ports.grpc}") as scorer:
                    assert np.allclose(scorer.score(CLIPS), tiny_probabilities(CLIPS, seed=0), rtol=0, atol=1e-6)
            finally:
                process.terminate()

    def test_killed_at_random_moments(self, site: Site) -> None:
        chooser = random.Random(0)
        expected = answers_of(dict(zip("01", site.bundles, strict=True)), CLIPS)
        undone = 0
        with Clients(site.server.url, CLIPS, expected, 2) as clients:
            for _ in range(8):
                arguments = command("deploy", site.bundles[1].root, site)
                with subprocess.Popen(
                    arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
                ) as process:
                    assert process.stderr is not None
                    steps = (line for line in process.stderr if line.startswith("rollout:"))
                    for _ in zip(range(chooser.randint(1, 4)), steps, strict=False):
                        pass
                    time.sleep(chooser.uniform(0, 0.5))
                    process.kill()
                if Journal(site.root).pending():
                    undone += 1
                    site.rollback()
                with Journal(site.root).exclusive():
                    pass  # as the next command does, which removes what the killed one was about to write
                site.serving()
        tally = sum(clients.tallies, Tally())
        assert (tally.wrong, tally.lost, tally.failures) == (0, [], {})
        assert undone

    def test_a_request_of_a_hundred_megabytes_is_refused_and_the_server_lives(self, site: Site) -> None:
        with site.control() as control, pytest.raises(InferenceServerException, match="batch-size"):
            control.infer(ENSEMBLE_MODEL, ("frames", np.zeros((8192, 4, 32, 32, 3), np.uint8)), "probabilities", None)
        assert site.answers(0)


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vdeploy.triton.deployment.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "with journal.exclusive(), journal.staging(): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RepositoryError, match="is being deployed to"), Journal(tmp_path).exclusive():
            pass
        process.kill()
    assert list(tmp_path.rglob("*.tmp"))
    with Journal(tmp_path).exclusive():
        assert not list(tmp_path.rglob("*.tmp"))


def test_a_repository_that_cannot_be_written() -> None:
    with (
        pytest.raises(RepositoryError, match="the model repository /sys/vdeploy cannot be written"),
        Journal(Path("/sys/vdeploy")).exclusive(),
    ):
        pass


@pytest.mark.parametrize("name", ["1/record.json", "pending.json"])
def test_a_damaged_note_is_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / ENSEMBLE_MODEL / "deployments" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"version": "many"}')
    deployments = Journal(tmp_path)
    read = deployments.pending if name == "pending.json" else lambda: deployments.record(1)
    with pytest.raises(RepositoryError, match=rf"{name} cannot be read .*to another repository") as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(600)
def test_versions_change_and_stages_die_under_load() -> None:
    """The committed figures' script, a quarter as long: no answer is wrong and no request is lost."""
    arguments = ["--changes", "5", "--kills", "2", "--requests", "2000", "--clients", "8", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rollout", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["wrong_answers"], figures["requests_lost"]) == (0, 0)
    assert (figures["versions_changed"], figures["stages_killed"]) == (5, 2)
    assert figures["requests"] >= 2000
    assert min(figures["answered_by"].values()) > 200


def command(verb: str, *parts: object) -> list[str]:
    """A command on a site, which comes last."""
    *arguments, site = parts
    assert isinstance(site, Site)
    target = ("--url", site.server.url, "--repo", site.root)
    return [sys.executable, "-m", "vdeploy", verb, *map(str, (*arguments, *target))]


@contextlib.contextmanager
def unless_triton_ends(site: Site) -> Iterator[None]:
    """What a dead Triton no longer answers is no fault of a deployment; the server's own end is told as such.

    Once in some thirty runs, Triton 2.51 has ended when a client of its control API was killed during a load.
    """
    try:
        yield
    except Exception:
        if not processes_with(f"--model-repository={site.root}"):
            log = site.server.log_file.read_text(errors="replace")
            pytest.xfail(f"Triton itself has ended; its log ends with: {log[-500:]}")
        raise


def kill_at(moment: str, arguments: list[str]) -> None:
    """Starts a deployment and kills it when it says so."""
    told, code = signal_at(moment, arguments, None, signal.SIGKILL)
    assert code == -signal.SIGKILL, told


def signal_at(moment: str, arguments: list[str], target: int | None, number: signal.Signals) -> tuple[list[str], int]:
    """Starts a deployment, sends a signal to it or to another process when it says so, and tells how it ended."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if line.startswith("rollout: ") and line.rstrip().endswith(moment):
                os.kill(target or process.pid, number)
        process.wait()
    return told, process.returncode


def vdeploy(*arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vdeploy", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout
