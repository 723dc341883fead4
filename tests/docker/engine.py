"""A container engine of one's own while a test lasts: Docker with BuildKit and compose, out of Debian's packages.

It shares the machine's network, with bridges that carry its mark in their names and without touching the firewall.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from testing.debian import fetch_packages
from tests.docker.isolation import Isolated

__all__ = ["Engine"]

PACKAGES = (
    *(f"{name}/trixie" for name in ("docker.io", "docker-cli", "docker-buildx", "docker-compose")),
    *(f"{name}/bookworm" for name in ("containerd", "runc", "tini")),
)
COMMAND_TIMEOUT_SECONDS = 280.0


class Engine(Isolated):
    """Starts an engine for a `with` block.

    Attributes:
        bridge: The name that a network's bridge has to have.

    Raises:
        Unavailable: None can be started here; the message says why.
    """

    def __init__(self) -> None:
        super().__init__()
        self._root = fetch_packages("engine", PACKAGES)
        self.bridge = f"vdb{self.mark}"

    def __enter__(self) -> Engine:
        self._enter()
        return self

    def docker(self, *arguments: object, environment: Mapping[str, str] | None = None, stdin: str = "") -> str:
        """Runs `docker ARGUMENTS` and returns what it prints.

        Raises:
            AssertionError: It fails; the message is the end of what it said.
        """
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            env=self._environment() | dict(environment or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"docker {' '.join(map(str, arguments))}:\n{(done.stdout + done.stderr)[-4000:]}"
        return done.stdout

    def _start(self) -> None:
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        for plugin in (self._root / "usr/libexec/docker/cli-plugins").iterdir():
            (plugins / plugin.name).symlink_to(plugin)
        (self.folder / "daemon.json").write_text("{}")
        command = ["dockerd", f"--host=unix://{self.folder}/socket", f"--config-file={self.folder}/daemon.json"]
        command += [
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
        ]
        command += [f"--cgroup-parent=/vdeploy-engine-{self.mark}", "--storage-driver=overlay2", "--bridge=none"]
        command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        command += [f"--userland-proxy-path={self._root}/usr/sbin/docker-proxy"]
        command += [f"--init-path={self._root}/usr/bin/tini-static"]
        self._launch(command, ready="API listen on", environment=self._environment())

    def _environment(self) -> dict[str, str]:
        root, inherited = self._root, {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        return inherited | {
            "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self.folder}/socket",
            "DOCKER_CONFIG": f"{self.folder}/config",
        }
