"""A podman of one's own while a test lasts, out of Debian's packages; it runs a Kubernetes Deployment.

Beside processes and mounts it has a network of its own, with its pods' bridge in it; nothing in there reaches the
machine's. Its containers are started by runc, with control groups that it makes itself.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testing.debian import Unavailable, fetch_packages
from tests.docker.isolation import Isolated
from tests.docker.leftovers import note_pod

__all__ = ["Podman"]

PACKAGES = tuple(
    f"{name}/bookworm"
    for name in (
        "busybox-static",
        "catatonit",
        "conmon",
        "containernetworking-plugins",
        "golang-github-containers-common",
        "golang-github-containers-image",
        "libassuan0",
        "libdevmapper1.02.1",
        "libglib2.0-0",
        "libgpgme11",
        "libseccomp2",
        "libsubid4",
        "podman",
        "runc",
    )
)
COMMAND_TIMEOUT_SECONDS = 120.0
NETWORK = "pods"

_FIRST_PROCESS = """
set -e
mount -t tmpfs tmpfs "$1/var"
mkdir "$1/var/upper" "$1/var/work"
mount -t overlay -o "lowerdir=/var/lib,upperdir=$1/var/upper,workdir=$1/var/work" overlay /var/lib
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mkdir "$1/data/tmp"
busybox ip link set lo up
trap 'exit 0' TERM
echo ready
sleep infinity & wait
"""
"""podman writes into /run, /var/lib and /dev/shm whatever it is told; without /run/systemd it sets no timers."""


class Podman(Isolated):
    """Starts the namespaces of a podman for a `with` block; podman itself runs for each command.

    Raises:
        Unavailable: None can be started here; the message says why.
    """

    def __init__(self) -> None:
        super().__init__(["nsenter"])
        self._root = fetch_packages("podman", PACKAGES)

    def __enter__(self) -> Podman:
        self._enter()
        return self

    def podman(self, *arguments: object, timeout: float = COMMAND_TIMEOUT_SECONDS) -> str:
        """Runs `podman ARGUMENTS` and returns what it prints.

        Raises:
            AssertionError: It fails; the message is the end of what it said.
        """
        return self._run("podman", f"--tmpdir={self.folder}/tmp", *arguments, timeout=timeout)

    def beside(self, *command: object) -> str:
        """Runs a program of this machine in the network that the pods are in, and returns what it prints.

        Raises:
            AssertionError: It fails; the message is the end of what it said.
        """
        entering = ["nsenter", f"--target={self.first_process}", "--net"]
        direct = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        return _checked([*entering, *map(str, command)], direct, COMMAND_TIMEOUT_SECONDS)

    def play(self, manifest: Path) -> None:
        """Runs what a file of Kubernetes manifests describes.

        Raises:
            AssertionError: A container does not start; the message is the end of what podman said.
        """
        try:
            self.podman("kube", "play", f"--network={NETWORK}", manifest)
        finally:
            for pod in self.podman("pod", "ps", "--quiet", "--no-trunc").split():
                note_pod(self.folder, pod)

    def _start(self) -> None:
        for name in ("var", "networks", ".config/containers"):
            (self.folder / name).mkdir(parents=True)
        policy = (self._root / "etc/containers/policy.json").read_text()
        (self.folder / ".config" / "containers" / "policy.json").write_text(policy)
        (self.folder / "networks" / f"{NETWORK}.conflist").write_text(json.dumps(self._network()))
        (self.folder / "containers.conf").write_text(self._configuration())
        storage = {"driver": "overlay", "graphroot": f"{self.folder}/data", "runroot": f"{self.folder}/run"}
        (self.folder / "storage.conf").write_text(_toml({"storage": storage}))
        self._launch(
            ["sh", "-c", _FIRST_PROCESS, "sh", str(self.folder)],
            ready="ready",
            environment=self._environment(),
            namespaces=["net"],
        )
        try:
            self.podman("info")
        except AssertionError as error:
            raise Unavailable(f"podman does not start: {str(error).splitlines()[-1]}") from error

    def _network(self) -> dict[str, object]:
        """A bridge without a firewall, so without the program iptables."""
        addresses = {
            "type": "host-local",
            "dataDir": f"{self.folder}/addresses",
            "ranges": [[{"subnet": "10.88.0.0/16"}]],
        }
        bridge = {"type": "bridge", "bridge": NETWORK, "isGateway": True, "ipam": addresses}
        return {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [bridge]}

    def _configuration(self) -> str:
        usr = self._root / "usr"
        return _toml(
            {
                "containers": {"log_driver": "k8s-file", "seccomp_profile": f"{usr}/share/containers/seccomp.json"},
                "engine": {
                    "cgroup_manager": "cgroupfs",
                    "conmon_path": [f"{usr}/bin/conmon"],
                    "events_logger": "file",
                    "helper_binaries_dir": [f"{usr}/libexec/podman", f"{usr}/lib/podman"],
                    "lock_type": "file",
                    "runtime": "runc",
                },
                "engine.runtimes": {"runc": [f"{usr}/sbin/runc"]},
                "network": {
                    "cni_plugin_dirs": [f"{usr}/lib/cni"],
                    "default_network": NETWORK,
                    "network_backend": "cni",
                    "network_config_dir": f"{self.folder}/networks",
                },
            }
        )

    def _run(self, *command: object, timeout: float) -> str:
        entering = ["nsenter", f"--target={self.first_process}", "--mount", "--pid", "--net"]
        return _checked([*entering, *map(str, command)], self._environment(), timeout)

    def _environment(self) -> dict[str, str]:
        root = self._root
        libraries = [str(found) for part in ("lib", "usr/lib") for found in (root / part).glob("*-linux-gnu")]
        return {
            "HOME": str(self.folder),
            "PATH": f"{root}/usr/bin:{root}/usr/sbin:{root}/bin:{os.environ['PATH']}",
            "TMPDIR": f"{self.folder}/data/tmp",
            "LD_LIBRARY_PATH": ":".join(libraries),
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{root}/etc/containers/registries.conf",
        }


def _checked(command: list[str], environment: dict[str, str], timeout: float) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}"
    return done.stdout


def _toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Strings and lists of strings are written in JSON as in TOML."""
    lines = (
        line
        for name, table in tables.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()))
    )
    return "\n".join(lines) + "\n"
