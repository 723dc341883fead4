"""The images are built by a real engine, served from, asked, and taken down again."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docker.debian import Unavailable
from tests.docker.engine import Engine, leftovers
from tests.docker.standin import PYTHON_IMAGE, TRITON_IMAGE, make_python_image, make_triton_image
from tests.tiny_bundle import make_tiny_bundle
from tests.videos import write_numbered
from vdeploy.bundle import Bundle
from vdeploy.errors import ServerError
from vdeploy.runtimes.local import LocalScorer
from vdeploy.triton.install import find_install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SECRET = "this-line-of-pip-conf-is-nobodys-business"  # noqa: S105
FRAMES, SIZE = 4, 32


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        with Engine() as running:
            yield running
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not leftovers(os.getpid())


@pytest.fixture(scope="module")
def python_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        make_python_image(engine, tmp_path_factory.mktemp("python"))
    except Unavailable as reason:
        pytest.skip(str(reason))
    return PYTHON_IMAGE


@pytest.fixture(scope="module")
def triton_image(engine: Engine, python_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        install = find_install()
    except ServerError as reason:
        pytest.skip(str(reason))
    if not install.stubs:
        pytest.skip(f"the Triton of {install.origin} cannot be put into an image")
    make_triton_image(engine, install, tmp_path_factory.mktemp("triton"))
    return TRITON_IMAGE


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles `tiny` and `better`, whose answers differ."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, seed in (("tiny", 0), ("better", 1)):
        make_tiny_bundle(folder / name, frames=FRAMES, size=SIZE, seed=seed)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    folder.chmod(0o755)
    return write_numbered(folder / "clip.mp4", 12)


@pytest.fixture(scope="module")
def client_image(engine: Engine, python_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(engine, "cli", python_image, tmp_path_factory.mktemp("secret"))


def build(engine: Engine, name: str, base: str, folder: Path, extras: str | None = None) -> str:
    """Builds `docker/Dockerfile.NAME` on a stand-in, with a pip configuration as a secret."""
    (folder / "pip.conf").write_text(f"# {SECRET}\n")
    tag = f"vdeploy-{name}:test"
    arguments = [] if extras is None else ["--build-arg", f"EXTRAS={extras}"]
    engine.docker(
        "build", "--network=host", "--tag", tag, "--file", ROOT / "docker" / f"Dockerfile.{name}",
        "--build-arg", f"BASE_IMAGE={base}", "--secret", f"id=pip,src={folder}/pip.conf", *arguments, ROOT,
    )  # fmt: skip
    return tag


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


def in_process(bundle: Path, clip: Path) -> float:
    from vdeploy.detector import predict_videos

    (prediction,) = predict_videos([clip], LocalScorer(Bundle(bundle)))
    assert prediction.probability is not None
    return prediction.probability


def test_the_client_image_judges_a_clip_by_a_bundle(engine, client_image, bundles, clip):
    said = probability(engine, client_image, clip, f"--volume={bundles}:/bundles:ro", "--bundle", "/bundles/tiny")
    assert said == pytest.approx(in_process(bundles / "tiny", clip), abs=1e-5)


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
    image = build(engine, "train", python_image, tmp_path, extras="onnx")
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


def test_compose_serves_a_bundle_that_answers_as_in_process(engine, stack, client_image, bundles, clip):
    assert probability(engine, client_image, clip, "--url", stack.url) == pytest.approx(
        in_process(bundles / "tiny", clip), abs=1e-5
    )


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


def test_a_new_version_is_deployed_in_the_running_container(engine, stack, client_image, bundles, clip):
    stack.compose(
        "exec", "triton", "vdeploy", "deploy", "/bundles/better", "--url", "localhost:8001", "--repo", "/models"
    )
    assert probability(engine, client_image, clip, "--url", stack.url) == pytest.approx(
        in_process(bundles / "better", clip), abs=1e-5
    )
