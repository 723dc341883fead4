from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from testing.tiny_bundle import tiny_probabilities
from testing.waiting import eventually
from tests.triton.conftest import Ports, forget_hashes, kill_stub, processes_with, program_of
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ClientError, RepositoryError, ServerError
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.names import CLASSIFIER_MODEL, EXTRACTOR_MODEL, MAX_BATCH_SIZE
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server import backoff
from vdeploy.triton.server.control_service import LocalRoute
from vdeploy.triton.server.health import Health, _Counts
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.process_group import remove_stale_regions
from vdeploy.triton.server.reaper import SHARED_MEMORY
from vdeploy.triton.server.server import TritonServer

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8)

SUPERVISOR = """
import sys
from pathlib import Path
from vdeploy.triton.server.reaper import SHARED_MEMORY
from vdeploy.triton.server.install import find_install
from vdeploy.triton.repository.model_set import PLAIN
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.server.server import TritonServer

repository = Repository(Path(sys.argv[1]), 1, PLAIN.models, "python")
http, grpc = map(int, sys.argv[2:])
try:
    log = repository.root / "log"
    with TritonServer(repository, http_port=http, grpc_port=grpc, metrics_port=0, log_file=log) as server:
        print("ready", server.pid, flush=True)
        server.watch()
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def regions_of(pid: int) -> list[str]:
    return [region.name for region in SHARED_MEMORY.glob(f"vdeploy-{pid}-*")]


def a_server(repository: Repository, install: TritonInstall, ports: Ports, **more: object) -> TritonServer:
    arguments = {"log_file": repository.root / "log"} | ports.as_arguments() | more
    return TritonServer(repository, install=install, **arguments)


LOCKED = "  what():  boost::interprocess::lock_exception"
UNHEALTHY = "error: creating server: Stub process 'vgg19_features_instances_0' is not healthy"


@pytest.mark.slow
@pytest.mark.parametrize("crashes", [1, 2])
@pytest.mark.parametrize(
    ("printed", "end", "reason"),
    [
        (LOCKED, "kill -ABRT $$", "was ended by SIGABRT: boost::interprocess::lock_exception"),
        (
            UNHEALTHY,
            "exit 1",
            "ended with exit code 1: creating server: Stub process 'vgg19_features_instances_0' is not",
        ),
    ],
)
def test_a_triton_that_crashes_as_it_starts_is_started_once_more(
    repository: Repository,
    install: TritonInstall,
    ports: Ports,
    capfd: pytest.CaptureFixture[str],
    crashes: int,
    printed: str,
    end: str,
    reason: str,
) -> None:
    count, program = repository.root / "count", repository.root.parent / "tritonserver"
    program.write_text(
        f"#!/bin/sh\necho >> {count}\n"
        f'if [ $(wc -l < {count}) -gt {crashes} ]; then exec {install.binary} "$@"; fi\n'
        f'echo "{printed}"\n{end}\n'
    )
    program.chmod(0o755)
    crashing = dataclasses.replace(install, binary=program)
    if crashes > 1:
        with pytest.raises(ServerError, match=reason), a_server(repository, crashing, ports):
            pass
    else:
        with a_server(repository, crashing, ports) as server, TritonScorer(server.url) as scorer:
            assert scorer.score(FRAMES).shape == (3, 2)
            assert server.restarts == 0
    told = capfd.readouterr().err
    assert f"Triton {reason}" in told
    assert told.count("it is started again") == 1
    assert not processes_with(str(repository.root))


@pytest.mark.parametrize("max_batch", [MAX_BATCH_SIZE, 32])
def test_a_slow_machine_gets_the_time_that_full_batches_take(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_batch: int
) -> None:
    """A probe that waits behind full batches must not be taken for a stage that is dead."""
    asked: list[float] = []

    def infer(self: Health, client: object, model: str, timeout_seconds: float) -> None:
        asked.append(timeout_seconds)
        time.sleep(0.05)

    monkeypatch.setattr(Health, "_infer", infer)
    repository = write_repository(bundle, tmp_path, options=ServingOptions(max_batch=max_batch))
    health = Health(repository, "127.0.0.1:1", tmp_path / "log", 0.1, LocalRoute("127.0.0.1:1", str))
    health.check_ensemble(1.0)
    health.check_ensemble(health._timeout)
    assert asked[0] == 1.0
    assert asked[1] >= 4 * max_batch * 0.05


def test_a_stage_whose_counts_began_anew_is_alive(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is loaded again between two counts has fewer successes after an inference than before it."""
    counts = iter([_Counts(5, 0), _Counts(5, 0), _Counts(1, 0)])
    monkeypatch.setattr(Health, "_infer", lambda *_: None)
    monkeypatch.setattr(Health, "_count", lambda *_: next(counts))
    health = Health(repository, "127.0.0.1:1", tmp_path / "log", 0.1, LocalRoute("127.0.0.1:1", str))
    health._counts[EXTRACTOR_MODEL] = next(counts)
    assert health._is_alive(None, EXTRACTOR_MODEL)
    assert health._counts[EXTRACTOR_MODEL] == _Counts(1, 0)


@pytest.mark.triton
class TestWhileItRuns:
    def test_it_serves_and_leaves_nothing(
        self,
        repository: Repository,
        install: TritonInstall,
        ports: Ports,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = set(regions_of(os.getpid()))
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
        with a_server(repository, install, ports) as server:
            with TritonScorer(server.url) as scorer:
                np.testing.assert_allclose(scorer.score(FRAMES), tiny_probabilities(FRAMES), rtol=0, atol=1e-6)
            assert set(regions_of(os.getpid())) > before
            assert server.pid in processes_with(str(repository.root))
            for address in (f"{ports.http}/v2/health/ready", f"{ports.metrics}/metrics"):
                with urllib.request.urlopen(f"http://127.0.0.1:{address}", timeout=10) as answer:
                    assert answer.status == 200
        assert not processes_with(str(repository.root))
        assert set(regions_of(os.getpid())) == before
        assert not list((tmp_path / "scratch").iterdir())
        with pytest.raises(ServerError, match="is not running"):
            server.heal()

    @pytest.mark.slow
    def test_it_listens_where_it_is_told_to_and_no_proxy_leads_there(
        self, repository: Repository, install: TritonInstall, ports: Ports, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        with (
            a_server(repository, install, ports, host="::1", http_port=None) as server,
            TritonScorer(server.url) as scorer,
        ):
            assert server.url == f"[::1]:{ports.grpc}"
            assert scorer.score(FRAMES).shape == (3, 2)
            with contextlib.closing(http.client.HTTPConnection("::1", ports.metrics, timeout=10)) as connection:
                connection.request("GET", "/metrics")
                assert connection.getresponse().status == 200
            arguments = Path(f"/proc/{program_of(server, repository.root)}/cmdline").read_bytes()
            assert b"--allow-http=false" in arguments
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", ports.grpc))

    @pytest.mark.parametrize("model", [EXTRACTOR_MODEL, pytest.param(CLASSIFIER_MODEL, marks=pytest.mark.slow)])
    def test_a_killed_stage_is_brought_back(
        self,
        repository: Repository,
        install: TritonInstall,
        ports: Ports,
        capfd: pytest.CaptureFixture[str],
        model: str,
    ) -> None:
        with a_server(repository, install, ports, metrics_port=0) as server, TritonScorer(server.url) as scorer:
            assert server.heal() == ()
            watched: list[BaseException] = []
            watcher = threading.Thread(target=self.watch, args=(server, watched))
            watcher.start()
            old = kill_stub(repository, model)
            with pytest.raises(ClientError):
                scorer.score(FRAMES)
            assert eventually(lambda: answers(scorer), seconds=20), server.log_file.read_text()
            assert kill_stub(repository, model, 0) != old
            assert eventually(lambda: f"{model} had died and was loaded again" in capfd.readouterr().err)
            server.stop()
            watcher.join(10)
            assert not watcher.is_alive()
            assert not watched
        assert not processes_with(str(repository.root))

    @staticmethod
    def watch(server: TritonServer, caught: list[BaseException]) -> None:
        try:
            server.watch(interval_seconds=0.1)
        except ServerError as error:
            caught.append(error)

    @pytest.mark.slow
    def test_an_unloaded_stage_is_loaded_again(
        self, repository: Repository, install: TritonInstall, ports: Ports
    ) -> None:
        with (
            a_server(repository, install, ports) as server,
            triton.InferenceServerClient(server.url) as admin,
            ModelControl(server.url) as control,
        ):
            control.unload(EXTRACTOR_MODEL)
            assert eventually(lambda: not admin.is_model_ready(EXTRACTOR_MODEL))
            assert server.heal() == (EXTRACTOR_MODEL,)
            with TritonScorer(server.url) as scorer:
                assert scorer.score(FRAMES).shape == (3, 2)
                (repository.root / EXTRACTOR_MODEL / "1" / "model.onnx").unlink()
                kill_stub(repository, EXTRACTOR_MODEL)
                with pytest.raises(ClientError):
                    scorer.score(FRAMES)
            with pytest.raises(
                ServerError, match=rf"{EXTRACTOR_MODEL} has died and cannot be loaded again: .*model.onnx"
            ):
                server.heal()

    @pytest.mark.slow
    def test_a_crash_loop_goes_on_with_growing_pauses(
        self,
        repository: Repository,
        install: TritonInstall,
        ports: Ports,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """By a signal that Triton does not catch: with one that it does, it may hang in printing its stack."""
        monkeypatch.setattr(backoff, "FIRST_PAUSE_SECONDS", 0.25)
        with a_server(repository, install, ports) as server, TritonScorer(server.url) as scorer:
            watched: list[BaseException] = []
            watcher = threading.Thread(target=self.watch, args=(server, watched))
            watcher.start()
            os.kill(program_of(server, repository.root), signal.SIGBUS)
            assert eventually(lambda: server.restarts == 1, seconds=20)
            assert eventually(lambda: answers(scorer))
            assert "Started GRPCInferenceService" in server.log_file.with_name("log.crashed").read_text()
            assert "Triton was ended by SIGBUS: its log gives no reason; it is started again" in capfd.readouterr().err
            for restarts, pause in ((2, "0.25"), (3, "0.5")):
                os.kill(program_of(server, repository.root), signal.SIGKILL)
                assert eventually(lambda restarts=restarts: server.restarts == restarts, seconds=20)
                told = capfd.readouterr().err
                ended = "Triton was ended by SIGKILL, as the system does where memory runs out"
                assert f"{ended}; it is started again in {pause} s" in told
            assert eventually(lambda: answers(scorer))
            os.kill(program_of(server, repository.root), signal.SIGKILL)
            server.stop()
            watcher.join(10)
            assert watched == []
        assert not processes_with(str(repository.root))

    @pytest.mark.slow
    def test_a_server_that_has_crashed_but_does_not_end_is_killed(
        self, repository: Repository, install: TritonInstall, ports: Ports, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """As Triton does where the stack cannot be printed: its main thread hangs, and the others go on."""
        with a_server(repository, install, ports) as server, TritonScorer(server.url) as scorer:
            watched: list[BaseException] = []
            watcher = threading.Thread(target=self.watch, args=(server, watched))
            watcher.start()
            with server.log_file.open("a") as log:
                log.write("Signal (11) received.\n")
            assert eventually(lambda: server.restarts == 1, seconds=20)
            assert eventually(lambda: answers(scorer))
            told = capfd.readouterr().err
            server.stop()
            watcher.join(10)
            assert (watched, server.restarts) == ([], 1)
        assert "Triton was ended by SIGSEGV: Triton had crashed but did not end; it was killed; it is started" in told
        assert not processes_with(str(repository.root))

    @pytest.mark.slow
    def test_a_stalled_server_is_waited_for_then_killed_and_started_again(
        self,
        repository: Repository,
        install: TritonInstall,
        ports: Ports,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("vdeploy.triton.server.health.CALL_TIMEOUT_SECONDS", 1.0)
        with a_server(repository, install, ports) as server, TritonScorer(server.url) as scorer:
            watched: list[BaseException] = []
            watcher = threading.Thread(target=self.watch, args=(server, watched))
            watcher.start()
            program = program_of(server, repository.root)
            os.kill(program, signal.SIGSTOP)
            time.sleep(2.5)
            os.kill(program, signal.SIGCONT)
            assert eventually(lambda: "Triton answers again, after" in capfd.readouterr().err)
            assert (program_of(server, repository.root), server.restarts, watched) == (program, 0, [])
            monkeypatch.setattr("vdeploy.triton.server.server.PATIENCE_SECONDS", 0.5)
            os.kill(program, signal.SIGSTOP)
            assert eventually(lambda: server.restarts == 1, seconds=30)
            assert eventually(lambda: answers(scorer))
            assert "Triton does not answer any more: Deadline Exceeded; it is started again" in capfd.readouterr().err
            server.stop()
            watcher.join(10)
            assert watched == []
        assert not processes_with(str(repository.root))

    @pytest.mark.slow
    def test_a_server_is_stopped_while_it_is_started_again(
        self, repository: Repository, install: TritonInstall, ports: Ports
    ) -> None:
        before = regions_of(os.getpid())
        with a_server(repository, install, ports) as server:
            watched: list[BaseException] = []
            watcher = threading.Thread(target=self.watch, args=(server, watched))
            watcher.start()
            os.kill(program_of(server, repository.root), signal.SIGABRT)
            assert eventually(lambda: server.log_file.with_name("log.crashed").exists())
            server.stop()
            watcher.join(10)
            assert (watched, server.restarts) == ([], 0)
        assert not processes_with(str(repository.root))
        assert regions_of(os.getpid()) == before

    def test_an_end_that_was_asked_for_is_told(
        self, repository: Repository, install: TritonInstall, ports: Ports
    ) -> None:
        with a_server(repository, install, ports) as server:
            os.kill(program_of(server, repository.root), signal.SIGTERM)
            with pytest.raises(ServerError, match=r"Triton ended with exit code \d: .*; its log is .*/log"):
                server.watch(interval_seconds=30)
        assert not processes_with(str(repository.root))

    @pytest.mark.slow
    @pytest.mark.usefixtures("install")
    def test_an_idle_connection_does_not_hold_it(self, repository: Repository, ports: Ports) -> None:
        process = start_supervisor(repository, ports)
        with socket.create_connection(("127.0.0.1", ports.http)) as idle:
            idle.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: here\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=20)
        assert (told, process.returncode) == ("stopped\n", 0)
        assert not processes_with(str(repository.root))
        assert not regions_of(process.pid)

    @pytest.mark.slow
    @pytest.mark.usefixtures("install")
    def test_it_dies_with_its_supervisor(self, repository: Repository, ports: Ports, tmp_path: Path) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        process = start_supervisor(repository, ports, TMPDIR=str(scratch))
        assert len(processes_with(str(repository.root))) >= 4
        assert regions_of(process.pid)
        assert list(scratch.glob("vdeploy-*"))
        process.kill()
        process.communicate(timeout=10)
        assert eventually(lambda: not processes_with(str(repository.root)))
        assert not regions_of(process.pid)
        assert not list(scratch.glob("vdeploy-*"))


@pytest.mark.triton
class TestStartsThatFail:
    def test_missing_code_is_found_before_the_start(
        self, repository: Repository, install: TritonInstall, ports: Ports
    ) -> None:
        (repository.root / CLASSIFIER_MODEL / "1" / "model.py").unlink()
        with pytest.raises(RepositoryError, match=f"{CLASSIFIER_MODEL}/1/model.py is missing"):
            a_server(repository, install, ports).start()
        assert not (repository.root / "log").exists()

    @pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
    def test_a_taken_port_is_named(
        self, repository: Repository, install: TritonInstall, ports: Ports, name: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 .*choose another with --{name}-port"):
                a_server(repository, install, ports, **{f"{name}_port": port}).start()

    @pytest.mark.parametrize(
        ("file", "old", "new", "told"),
        [
            ("config.pbtxt", 'name: "features"', 'name: "feature"', "has input features, config.pbtxt says feature"),
            pytest.param(
                *(
                    "config.pbtxt",
                    "dims: 4",
                    "dims: 5",
                    r"shape for input 'features' for model 'lstm_classifier'\. Expected \[-1,5,8\], got \[1,4,8\]",
                ),
                marks=pytest.mark.slow,
            ),
            pytest.param(
                *("1/model.py", "import numpy", "import nothing_here", "No module named 'nothing_here'"),
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_the_reason_is_told(
        self, repository: Repository, install: TritonInstall, ports: Ports, file: str, old: str, new: str, told: str
    ) -> None:
        forget_hashes(repository)
        broken = repository.root / CLASSIFIER_MODEL / file
        broken.write_text(broken.read_text().replace(old, new, 1))
        with pytest.raises(ServerError, match=rf"{told}[^.]*; its log is .*/log") as caught:
            a_server(repository, install, ports).start()
        assert "\n" not in str(caught.value)
        assert not processes_with(str(repository.root))

    def test_it_may_not_take_for_ever(self, repository: Repository, install: TritonInstall, ports: Ports) -> None:
        forget_hashes(repository)
        code = repository.root / CLASSIFIER_MODEL / "1" / "model.py"
        code.write_text("import time\ntime.sleep(1000)\n")
        before = regions_of(os.getpid())
        with pytest.raises(ServerError, match=r"was not ready after 1.5 s"):
            a_server(repository, install, ports, startup_timeout=1.5).start()
        assert not processes_with(str(repository.root))
        assert regions_of(os.getpid()) == before

    def test_a_backend_that_the_server_lacks(
        self, repository: Repository, install: TritonInstall, ports: Ports
    ) -> None:
        if install.has_backend("onnxruntime"):
            pytest.skip("this server has it")
        other = Repository(repository.root, 1, repository.models, "onnxruntime")
        with pytest.raises(ServerError, match="has no onnxruntime backend; choose another with --backend"):
            a_server(other, install, ports).start()

    @pytest.mark.slow
    def test_a_log_that_cannot_be_written(self, repository: Repository, install: TritonInstall, ports: Ports) -> None:
        with pytest.raises(ServerError, match=r"cannot be started .*make /sys/vdeploy/log writable"):
            a_server(repository, install, ports, log_file=Path("/sys/vdeploy/log")).start()

    @pytest.mark.slow
    def test_a_program_that_cannot_run(self, repository: Repository, ports: Ports, tmp_path: Path) -> None:
        binary = tmp_path / "opt" / "bin" / "tritonserver"
        backend = tmp_path / "opt" / "backends" / "python" / "libtriton_python.so"
        for file in (binary, backend):
            file.parent.mkdir(parents=True)
            file.write_text("no program")
        binary.chmod(0o755)
        install = TritonInstall(binary, backend.parents[1], {}, tmp_path, "", "a test")
        with pytest.raises(ServerError, match="tritonserver cannot be run: Exec format error"):
            a_server(repository, install, ports).start()


def test_regions_of_the_living_and_of_other_containers_stay() -> None:
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        f"vdeploy-{os.getpid()}-{namespace}-t-1": True,
        f"vdeploy-{dead.pid}-{namespace + 1}-t-1": True,
        f"vdeploy-{dead.pid}-{namespace}-t-1": False,
    }
    try:
        for name in names:
            (SHARED_MEMORY / name).touch()
        remove_stale_regions()
        assert {name: (SHARED_MEMORY / name).exists() for name in names} == names
    finally:
        for name in names:
            (SHARED_MEMORY / name).unlink(missing_ok=True)


def start_supervisor(repository: Repository, ports: Ports, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, repository.root, str(ports.http), str(ports.grpc)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stdout.readline().startswith("ready ")
    return process


def answers(scorer: TritonScorer) -> bool:
    try:
        return scorer.score(FRAMES).shape == (3, 2)
    except ClientError:
        return False
