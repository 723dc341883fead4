"""The Deployment of the manifests runs: podman starts it as a kubelet would, it is probed, asked and taken down."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.debian import Unavailable
from testing.waiting import eventually
from tests.docker.engine import Engine
from tests.docker.images import build_image
from tests.docker.leftovers import groups_of_pods, leftovers, remove_leftovers
from tests.docker.podman import Podman

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BASE = ROOT / "docker" / "kubernetes" / "base"
PATIENCE_SECONDS = 120
FETCH = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=20).read().decode())"
OWNER = """
import time
from tests.docker.podman import Podman
with Podman() as podman:
    print(podman.folder, podman.first_process, flush=True)
    time.sleep(600)
"""


def as_deployed(bundle: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The base's Deployment and its ConfigMap, for a bundle.

    Of kustomize's work the image's name and the ConfigMap; of a kubelet's, what podman 4.3 leaves undone: the variables
    in arguments. All else is as it stands in the base.
    """
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    (settings,) = kustomization["configMapGenerator"]
    data = dict(literal.split("=", 1) for literal in settings["literals"]) | {"BUNDLE": bundle}
    deployment = yaml.safe_load((BASE / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["image"] = image_name()
    values = data | {"CPUS": container["resources"]["requests"]["cpu"]}
    container["args"] = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], given) for given in container["args"]]
    configuration = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": settings["name"]}, "data": data}
    return deployment, configuration


def image_name() -> str:
    (image,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    return f"{image['newName']}:{image['newTag']}"


class Pod:
    """The pod of a Deployment, running in podman.

    Attributes:
        spec: What the Deployment says of it.
        container: What it says of its only container.
        address: The pod's own.
    """

    def __init__(self, podman: Podman, deployment: dict[str, Any]) -> None:
        self._podman = podman
        self.spec = deployment["spec"]["template"]["spec"]
        (self.container,) = self.spec["containers"]
        self._name = f"{deployment['metadata']['name']}-pod-0-{self.container['name']}"
        (network,) = self.described()["NetworkSettings"]["Networks"].values()
        self.address = network["IPAddress"]

    def described(self) -> dict[str, Any]:
        (found,) = json.loads(self._podman.podman("inspect", self._name))
        return dict(found)

    def execute(self, *command: str, timeout: float = 30) -> str:
        return self._podman.podman("exec", self._name, *command, timeout=timeout)

    def succeeds(self, probe: str) -> bool:
        """Runs one of the container's probes as a kubelet does."""
        told = self.container[probe]
        try:
            if "exec" in told:
                self.execute(*told["exec"]["command"], timeout=told["timeoutSeconds"])
            else:
                self.fetch(told["httpGet"]["port"], told["httpGet"]["path"])
        except (AssertionError, subprocess.TimeoutExpired):
            return False
        return True

    def kill(self) -> None:
        """Ends it as the kernel does when memory is short, and starts it again, with the same volumes."""
        self._podman.podman("kill", self._name)
        self._podman.podman("start", self._name)

    def fetch(self, port: str, path: str) -> str:
        """Asks the pod from outside for a page."""
        return self._podman.beside(sys.executable, "-c", FETCH, f"http://{self.address}:{self.port(port)}{path}")

    def port(self, name: str) -> int:
        """The number of a port with a name."""
        return {port["name"]: int(port["containerPort"]) for port in self.container["ports"]}[name]

    def wait(self) -> None:
        """Until its start-up probe succeeds; what the container said is the reason when it does not in its time."""
        told = self.container["startupProbe"]
        deadline = time.monotonic() + min(told["periodSeconds"] * told["failureThreshold"], PATIENCE_SECONDS)
        while not self.succeeds("startupProbe"):
            assert time.monotonic() < deadline, self._podman.podman("logs", self._name)
            time.sleep(1)

    def stop(self) -> int:
        """Asks it to end, with the time that a kubelet grants after its preStop hook, and returns its exit code."""
        waited = int(self.container["lifecycle"]["preStop"]["exec"]["command"][-1])
        self._podman.podman("stop", f"--time={self.spec['terminationGracePeriodSeconds'] - waited}", self._name)
        return int(self.described()["State"]["ExitCode"])


def provide_volumes(podman: Podman, spec: dict[str, Any], claimed: Path) -> None:
    """Volumes as a kubelet makes them: what is empty may be written by the pod's fsGroup, what is claimed is there."""
    group = spec["securityContext"]["fsGroup"]
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            options, name = ("type=tmpfs", "device=tmpfs", f"o=uid=0,gid={group},mode=2777"), volume["name"]
        else:
            options, name = ("type=none", f"device={claimed}", "o=bind"), volume["persistentVolumeClaim"]["claimName"]
        podman.podman("volume", "create", *(f"--opt={option}" for option in options), name)


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    before = set(groups_of_pods())
    try:
        with Podman() as running:
            yield running
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not leftovers(running.mark)
    assert not set(groups_of_pods()) - before


@pytest.fixture(scope="module")
def loaded(engine: Engine, podman: Podman, triton_image: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The image that the manifests name is in podman's store."""
    folder = tmp_path_factory.mktemp("image")
    built = build_image(engine, "triton", triton_image, folder, extras="triton")
    engine.docker("tag", built, image_name())
    engine.docker("save", "--output", folder / "image.tar", image_name())
    podman.podman("load", "--quiet", "--input", folder / "image.tar")
    (folder / "image.tar").unlink()


@pytest.fixture(scope="module")
def pod(podman: Podman, loaded: None, bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = tmp_path_factory.mktemp("pod")
    documents = as_deployed("tiny")
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump_all(documents))
    claimed = shutil.copytree(bundles, folder / "claimed")
    provide_volumes(podman, documents[0]["spec"]["template"]["spec"], claimed)
    try:
        podman.play(manifest)
        running = Pod(podman, documents[0])
        running.wait()
        yield running
        assert running.stop() == 0, "asked to end, it has not ended by itself"
    finally:
        podman.podman("kube", "down", manifest)
        podman.podman("volume", "rm", "--all", "--force")
        assert not podman.podman("ps", "--all", "--quiet")


def test_every_probe_of_the_deployment_succeeds(pod):
    assert all(pod.succeeds(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe"))


def test_a_clip_is_judged_through_the_pod_as_in_process(podman, pod, clip, in_process):
    url = f"{pod.address}:{pod.port('grpc')}"
    printed = podman.beside(sys.executable, "-m", "vdeploy", "predict", clip, "--json", "--url", url)
    assert json.loads(printed)["predictions"][0]["probability"] == pytest.approx(in_process["tiny"], abs=1e-5)


def test_what_is_killed_serves_again_and_fills_no_shared_memory(pod):
    before = pod.execute("ls", "/dev/shm").split()
    pod.kill()
    pod.wait()
    after = pod.execute("ls", "/dev/shm").split()
    assert len(before) == len(after) > 0
    assert not set(before) & set(after)


def test_what_the_autoscaler_asks_for_can_be_scraped(pod):
    assert 'nv_inference_queue_duration_us{model="vgg19_features"' in pod.fetch("metrics", "/metrics")


def test_the_pod_can_do_no_more_than_it_must(pod):
    fields = dict(line.split(":\t", 1) for line in pod.execute("cat", "/proc/1/status").splitlines())
    security = pod.spec["securityContext"]
    assert set(fields["Uid"].split()) == {str(security["runAsUser"])}
    assert set(fields["Gid"].split()) == {str(security["runAsGroup"])}
    assert int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert pod.execute("printenv", "CPUS").strip() == pod.container["resources"]["requests"]["cpu"]
    mounts = dict(line.split(" ")[1:4:2] for line in pod.execute("cat", "/proc/1/mounts").splitlines())
    writable = {path for path, options in mounts.items() if options.split(",")[0] == "rw"}
    assert {mount["mountPath"] for mount in pod.container["volumeMounts"] if not mount.get("readOnly")} <= writable
    assert not {"/", "/bundles"} & writable
    assert f"{pod.described()['HostConfig']['Memory'] >> 30}Gi" == pod.container["resources"]["limits"]["memory"]


def test_a_killed_owner_takes_its_podman_along_and_the_next_one_sweeps_up(podman):
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder, first_process = owner.stdout.readline().split()
        owner.kill()
    assert eventually(lambda: not Path("/proc", first_process).exists())
    assert folder not in Path("/proc/mounts").read_text()
    assert folder in leftovers()
    remove_leftovers()
    assert not Path(folder).exists()
    assert podman.folder.exists()
