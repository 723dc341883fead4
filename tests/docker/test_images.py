"""The images are built by a real engine, served from, asked, and taken down again."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import Engine
from tests.docker.images import SECRET, build_image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client_image(engine: Engine, python_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_image(engine, "cli", python_image, tmp_path_factory.mktemp("secret"))


class Stack:
    """The services of the compose file, on free ports and on stand-ins."""

    def __init__(self, engine: Engine, variables: Mapping[str, str], folder: Path) -> None:
        self._engine = engine
        self._variables = variables
        bridge = {"driver_opts": {"com.docker.network.bridge.name": engine.bridge}}
        override = {"services": {"triton": {"build": {"network": "host"}}}, "networks": {"default": bridge}}
        self._override = folder / "override.json"
        self._override.write_text(json.dumps(override))

    def compose(self, *arguments: str) -> str:
        files = ("--file", ROOT / "docker" / "compose.yaml", "--file", self._override)
        return self._engine.docker("compose", *files, *arguments, environment=self._variables)

    @property
    def url(self) -> str:
        return f"localhost:{self._variables['GRPC_PORT']}"


@pytest.fixture(scope="module")
def stack(
    engine: Engine, triton_image: str, bundles: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with contextlib.ExitStack() as sockets:
        taken = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [str(one.getsockname()[1]) for one in taken]
    variables = dict(zip(("HTTP_PORT", "GRPC_PORT", "METRICS_PORT"), ports, strict=True))
    variables |= {"BUNDLE": "tiny", "BUNDLES": str(bundles), "TRITON_IMAGE": triton_image, "MEMORY": "2g"}
    running = Stack(engine, variables, tmp_path_factory.mktemp("compose"))
    try:
        try:
            running.compose("up", "--build", "--wait", "--wait-timeout", "200")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{running.compose('logs')}") from error
        yield running
    finally:
        running.compose("down", "--volumes", "--timeout", "20")
        assert not engine.docker("ps", "--all", "--quiet")


def probability(engine: Engine, image: str, clip: Path, *arguments: str) -> float:
    """What `vdeploy predict` in a container that may do nothing says of the clip."""
    printed = engine.docker(
        "run", "--rm", "--network=host", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", f"--volume={clip.parent}:/work:ro",
        *arguments[:-2], image, "predict", clip.name, "--json", *arguments[-2:],
    )  # fmt: skip
    return float(json.loads(printed)["predictions"][0]["probability"])


def test_the_client_image_judges_a_clip_by_a_bundle(engine, client_image, bundles, clip, in_process):
    said = probability(engine, client_image, clip, f"--volume={bundles}:/bundles:ro", "--bundle", "/bundles/tiny")
    assert said == pytest.approx(in_process["tiny"], abs=1e-5)


def test_no_layer_holds_the_pip_configuration_and_nobody_is_root(engine, client_image):
    assert SECRET not in engine.docker("history", "--no-trunc", client_image)
    search = ["grep", "-rlsF", SECRET, "/etc", "/opt", "/root", "/home", "/usr/local", "/var"]
    found = engine.docker(
        "run", "--rm", "--user=0", "--entrypoint=sh", client_image, "-c", f"{' '.join(search)} || true"
    )
    assert not found
    assert engine.docker("run", "--rm", "--entrypoint=id", client_image, "-u").strip() == "10001"


def test_the_training_image_builds_and_runs(engine, python_image, client_image, tmp_path):
    """With the packages of the client, which the engine has built already; TensorFlow's would take minutes."""
    image = build_image(engine, "train", python_image, tmp_path, extras="onnx")
    assert "Usage" in engine.docker("run", "--rm", "--read-only", "--tmpfs=/tmp", image, "train", "--help")


def test_bindings_come_in_the_version_of_the_tensorrt_that_is_there(engine, python_image):
    """A file with TensorRT's name stands for its libraries, which only NVIDIA's images have; the bindings are real."""
    script = ROOT / "docker" / "tensorrt_bindings.sh"
    printed = engine.docker(
        "run", "--rm", "--network=host", "--env=CUDA_VERSION=13.0.2", f"--volume={script}:/script.sh:ro",
        "--entrypoint=sh", python_image, "-ec",
        "python3 -m venv --without-pip /venv; bash /script.sh /venv;"
        "touch /usr/lib/libnvinfer.so.10.13.3; bash /script.sh /venv; ls -d /venv/lib/python3*/site-packages/tensorrt*",
    )  # fmt: skip
    assert "this image has no TensorRT" in printed
    names = [Path(line).name for line in printed.splitlines() if line.startswith("/venv/")]
    assert any(name.startswith("tensorrt_cu13_bindings-10.13.3.") for name in names)
    assert "tensorrt" in names


def test_the_other_compose_files_fit_the_first(engine, bundles):
    def triton(*files: str) -> dict[str, Any]:
        arguments = [part for file in ("compose.yaml", *files) for part in ("--file", ROOT / "docker" / file)]
        variables = {"BUNDLE": "tiny", "BUNDLES": str(bundles), "REPLICAS": "3"}
        printed = engine.docker("compose", *arguments, "config", "--format=json", environment=variables)
        return dict(json.loads(printed)["services"]["triton"])

    all_of_them = (
        "compose",
        "--profile=monitoring",
        "--file",
        ROOT / "docker" / "compose.yaml",
        "config",
        "--services",
    )
    assert set(engine.docker(*all_of_them, environment={"BUNDLE": "tiny"}).split()) == {
        "triton",
        "prometheus",
        "grafana",
    }
    on_gpu, several = triton("compose.gpu.yaml"), triton("compose.scale.yaml")
    assert on_gpu["command"][-2:] == ["--gpus", "0"]
    assert on_gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert several["deploy"]["replicas"] == 3
    assert not several.get("ports")
    assert [volume["target"] for volume in several["volumes"]] == ["/bundles"]


def test_compose_serves_a_bundle_that_answers_as_in_process(engine, stack, client_image, clip, in_process):
    assert probability(engine, client_image, clip, "--url", stack.url) == pytest.approx(in_process["tiny"], abs=1e-5)


def test_the_service_can_do_no_more_than_it_must(engine, stack):
    (described,) = json.loads(engine.docker("inspect", stack.compose("ps", "--quiet", "triton").strip()))
    limits = described["HostConfig"]
    assert limits["ReadonlyRootfs"]
    assert limits["CapDrop"] == ["ALL"]
    assert limits["Memory"] == 2 << 30
    assert {binding["HostIp"] for ports in limits["PortBindings"].values() for binding in ports} == {"127.0.0.1"}
    assert described["State"]["Health"]["Status"] == "healthy"
    status = stack.compose("exec", "triton", "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert set(fields["Uid"].split()) == {"10001"}
    assert int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"


def test_what_is_deployed_in_the_running_container_outlives_a_restart(engine, stack, client_image, clip, in_process):
    stack.compose(
        "exec", "triton", "vdeploy", "deploy", "/bundles/better", "--url", "localhost:8001", "--repo", "/models"
    )
    assert probability(engine, client_image, clip, "--url", stack.url) == pytest.approx(in_process["better"], abs=1e-5)
    stack.compose("restart", "triton")
    stack.compose("up", "--wait", "--wait-timeout", "200", "triton")
    assert probability(engine, client_image, clip, "--url", stack.url) == pytest.approx(in_process["better"], abs=1e-5)
