"""Nobody but the user who runs a server changes it: no key to read, no interface to call, no socket to ask."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from testing.forbidden_calls import without_call
from testing.running_gateway import descendants
from testing.strangers import MAY_CHANGE_USER, STRANGER, run_as_stranger
from testing.waiting import eventually
from tests.triton.conftest import Ports, program_of
from vdeploy.core.errors import AccessError
from vdeploy.triton.client.control_routes import (
    CONTROL_KEY_VARIABLE,
    SERVER_ID_PREFIX,
    SocketRoute,
    control_address,
)
from vdeploy.triton.client.listeners import listener_owners
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.names import DEPLOYMENTS, ENSEMBLE_MODEL
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer

pytestmark = pytest.mark.triton

CALLS = """
import tritonclient.grpc as triton
import vdeploy.triton.client.model_control as model_control
from vdeploy.core.errors import AccessError
from vdeploy.triton.deployment.status import read_status
"""

READ_EVERYTHING = """
found = b""
for process in sys.argv[1:]:
    for name in ("cmdline", "environ", "auxv", "mem", "maps", "stat", "status", "comm", "cwd", "root", "stack"):
        try:
            found += Path("/proc", process, name).read_bytes()
        except OSError as error:
            print(name, type(error).__name__)
for folder in (Path("/dev/shm"), *Path("/tmp").glob("vdeploy*")):
    for file in folder.rglob("*"):
        try:
            if file.is_file() and file.stat().st_size < 1 << 22:
                found += file.read_bytes()
        except OSError:
            pass
print(repr(found))
"""

CALL_EVERYTHING = """
client = triton.InferenceServerClient(sys.argv[1])
calls = {
    "load": lambda: client.load_model("violence_detector"),
    "override": lambda: client.load_model(
        "x", config='{"backend": "python"}', files={"file:1/model.py": b"import os; os.abort()"}
    ),
    "unload": lambda: client.unload_model("violence_detector"),
    "index": lambda: client.get_model_repository_index(),
    "register": lambda: client.register_system_shared_memory("a", "/a", 16),
    "regions": lambda: client.get_system_shared_memory_status(),
    "cuda regions": lambda: client.get_cuda_shared_memory_status(),
    "unregister": lambda: client.unregister_system_shared_memory(),
    "log": lambda: client.update_log_settings({"log_verbose_level": 100}),
    "log settings": lambda: client.get_log_settings(),
    "trace": lambda: client.update_trace_settings(settings={"trace_level": ["TENSORS"]}),
    "trace settings": lambda: client.get_trace_settings(),
}
for name, call in calls.items():
    try:
        call()
    except triton.InferenceServerException as error:
        assert "restricted" in error.message(), (name, error)
    else:
        raise SystemExit(f"{name} was let through")
assert client.is_server_live() and client.is_model_ready("violence_detector")
print(len(calls), "refused")
"""

ASK_ITS_SUPERVISOR = """
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(10)
connection.connect("\\0" + sys.argv[1])
try:
    connection.sendall(b'{"call": "index", "model": "", "timeout_seconds": 5}\\n')
    print(connection.recv(1000))
except (ConnectionResetError, BrokenPipeError):
    print(b"")
"""

LOOK = """
with model_control.ModelControl(sys.argv[1]) as control:
    found = read_status(control)
    print(found.healthy, [(entry.version, entry.answers, entry.loaded) for entry in found.versions])
    try:
        control.check_access()
    except AccessError as error:
        print(error)
"""


def key_of(server: TritonServer) -> str:
    return server._launch.key


def processes_of(server: TritonServer) -> list[int]:
    group = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _group(entry) == server.pid]
    assert len(group) >= 4
    return group


def _group(entry: Path) -> int:
    try:
        return os.getpgid(int(entry.name))
    except ProcessLookupError:
        return 0


def test_the_key_is_in_no_argument(server: TritonServer) -> None:
    for process in processes_of(server):
        assert key_of(server).encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
    root = server._launch.repository.root
    assert b"VDEPLOY_HIDDEN_ARGUMENT_0" in Path(f"/proc/{program_of(server, root)}/cmdline").read_bytes()
    assert not [file for file in root.rglob("*") if file.is_file() and key_of(server).encode() in file.read_bytes()]
    assert key_of(server) not in server.log_file.read_text()


@pytest.mark.skipif(not MAY_CHANGE_USER, reason="only root may run code as another user")
class TestAnotherUser:
    def test_reads_the_key_nowhere(self, server: TritonServer) -> None:
        told = run_as_stranger("from pathlib import Path", READ_EVERYTHING, *processes_of(server), os.getpid())
        assert "environ PermissionError" in told
        assert "mem PermissionError" in told
        assert "VDEPLOY_HIDDEN_ARGUMENT_0" in told
        assert key_of(server) not in told

    @pytest.mark.usefixtures("server")
    def test_opens_none_of_its_shared_memory(self) -> None:
        told = run_as_stranger(
            "from pathlib import Path",
            "for file in Path('/dev/shm').glob('vdeploy-*'):\n"
            "    try: file.open('rb'); print('open', file)\n"
            "    except PermissionError: print('closed')",
        )
        assert "closed" in told
        assert "open" not in told

    def test_is_refused_by_every_interface_that_changes_the_server(self, server: TritonServer) -> None:
        assert run_as_stranger(CALLS, CALL_EVERYTHING, server.url) == "12 refused\n"

    def test_gets_no_answer_from_the_supervisor(self, server: TritonServer) -> None:
        with triton.InferenceServerClient(server.url) as client:
            server_id = client.get_server_metadata().name
        assert server_id.startswith(SERVER_ID_PREFIX)
        assert run_as_stranger("import socket", ASK_ITS_SUPERVISOR, server_id) == "b''\n"

    def test_sees_what_answers_and_a_line_that_helps(self, server: TritonServer) -> None:
        seen, refused = run_as_stranger(CALLS, LOOK, server.url).splitlines()
        assert seen == "True [(1, True, {})]"
        assert re.fullmatch(
            rf"{server.url} lets only the user who runs it control its models, and only on its own machine; "
            rf"run the command there as that user, or set {CONTROL_KEY_VARIABLE} where the server has a key",
            refused,
        )

    def test_is_not_sent_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server of another user, with the interface of a Triton, at the address that a command is given."""
        (port,) = free_ports(1)
        code = (
            "class Impostor(service_pb2_grpc.GRPCInferenceServiceServicer):\n"
            "    def ServerMetadata(self, request, context):\n"
            "        return service_pb2.ServerMetadataResponse(name='triton')\n"
            "    def RepositoryIndex(self, request, context):\n"
            "        print(dict(context.invocation_metadata()), flush=True)\n"
            "        return service_pb2.RepositoryIndexResponse()\n"
            "server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))\n"
            "service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Impostor(), server)\n"
            "server.add_insecure_port(f'127.0.0.1:{sys.argv[1]}')\n"
            "server.start()\n"
            "time.sleep(4)\n"
        )
        imports = (
            "import concurrent.futures.thread, time, grpc\n"
            "from tritonclient.grpc import service_pb2, service_pb2_grpc\n"
        )
        monkeypatch.setenv(CONTROL_KEY_VARIABLE, "precious")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            impostor = pool.submit(run_as_stranger, imports, code, port)
            assert eventually(lambda: bool(listener_owners(port)))
            assert listener_owners(port) == {STRANGER}
            with pytest.raises(AccessError, match=r"is not sent to .*: another user listens there"):
                ModelControl(f"127.0.0.1:{port}")
            assert "precious" not in impostor.result(30)


def test_its_own_user_is_let_in(server: TritonServer) -> None:
    with ModelControl(server.url) as control:
        control.check_access()
        assert control.states(ENSEMBLE_MODEL) == {1: "READY"}


def test_over_http_too(server: TritonServer) -> None:
    host = server.url.rsplit(":", 1)[0]
    for path in (
        f"v2/repository/models/{ENSEMBLE_MODEL}/unload",
        "v2/logging",
        "v2/trace/setting",
        "v2/systemsharedmemory/region/a/register",
    ):
        request = urllib.request.Request(f"http://{host}:{server.http_port}/{path}", b"{}")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)  # noqa: S310


def test_a_request_that_is_none(server: TritonServer) -> None:
    with triton.InferenceServerClient(server.url) as client:
        server_id = client.get_server_metadata().name
    for line in (b"\n", b"hello\n", b"[]\n", b'{"call": "stop", "model": "", "timeout_seconds": 1}\n', b"x" * 100):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(control_address(server_id))
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").readline()
            assert not answer or "error" in json.loads(answer)
    assert {state.name for state in SocketRoute(server_id).index(5.0)} >= {ENSEMBLE_MODEL}


@pytest.mark.parametrize("url", ["192.0.2.7:8001", "triton.example:8001"])
def test_a_key_is_sent_to_no_other_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vdeploy.triton.client import control_routes

    class Silent:
        def get_server_metadata(self, **_: object) -> object:
            return type("Metadata", (), {"name": "triton"})

    monkeypatch.setenv(CONTROL_KEY_VARIABLE, "precious")
    with pytest.raises(AccessError, match=rf"is not sent to {url}, .*; .*ssh -L 8001:localhost:8001 HOST"):
        control_routes.open_route(Silent(), url, 1.0)


def test_a_key_of_0_1_is_removed(tmp_path: Path) -> None:
    from vdeploy.triton.deployment.journal import Journal

    file = tmp_path / DEPLOYMENTS / "control-key"
    file.parent.mkdir(parents=True)
    file.write_text("old")
    with Journal(tmp_path).exclusive():
        assert not file.exists()


def serving_without_ptrace(root: Path, ports: Ports, **environment: str) -> subprocess.Popen[str]:
    options = ("--launch", "--grpc-port", ports.grpc, "--metrics-port", 0, "--log", root.with_suffix(".log"))
    command = [sys.executable, "-m", "vdeploy", "serve", "--repo", root, *options]
    return subprocess.Popen(
        without_call("ptrace", errno.EPERM, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LD_PRELOAD": ""} | environment,
    )


@pytest.mark.slow
def test_the_key_is_hidden_where_ptrace_is_forbidden(repository: Repository, ports: Ports, install) -> None:
    with serving_without_ptrace(repository.root, ports) as process:
        try:
            assert process.stdout.readline().startswith("ready: "), process.stderr.read()
            processes = descendants(process.pid)
            arguments = [Path("/proc", str(pid), "cmdline").read_bytes() for pid in processes]
            assert any(b"tritonserver" in line for line in arguments)
            assert not any(b"restricted" in line for line in arguments)
            with (
                triton.InferenceServerClient(f"127.0.0.1:{ports.grpc}") as client,
                pytest.raises(triton.InferenceServerException, match="restricted"),
            ):
                client.get_model_repository_index()
        finally:
            process.terminate()
            process.communicate()
    assert process.returncode == 0


def test_serve_refuses_where_the_key_cannot_be_hidden(repository: Repository, ports: Ports, install) -> None:
    with serving_without_ptrace(repository.root, ports, LD_PRELOAD="/missing/library.so") as process:
        out, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert "this system lets no process trace its own child or change its memory" in told.splitlines()[-1]
    assert "VDEPLOY_VISIBLE_KEY=1" in told.splitlines()[-1]
    assert not descendants(process.pid)
