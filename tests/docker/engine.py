"""A container engine of one's own while a test lasts: Docker with BuildKit and compose, out of Debian's packages.

It lives in process and mount namespaces of its own, so that with its first process everything of it ends. It shares the
machine's network, with bridges that carry this process's id in their names and without touching the firewall.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from tests.docker.debian import Unavailable, fetch_packages

__all__ = ["Engine", "leftovers", "remove_leftovers"]

PACKAGES = (
    *(f"{name}/trixie" for name in ("docker.io", "docker-cli", "docker-buildx", "docker-compose")),
    *(f"{name}/bookworm" for name in ("containerd", "runc", "tini")),
)
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0
COMMAND_TIMEOUT_SECONDS = 280.0
DISK_BYTES = 32 << 30

_ON_A_DISK_OF_ITS_OWN = 'mount -o loop,noatime "$1" "$2" || true; shift 2; exec "$@"'
"""Where there is no loop device, the data lies in the folder itself."""

_BRIDGE_DELETE, _FLAGS_SET = 0x89A1, 0x8914
_NAME_SIZE, _REQUEST_SIZE = 16, 40
_CGROUPS = Path("/sys/fs/cgroup")
_FOLDERS = Path("/var/tmp")


class Engine:
    """Starts an engine for a `with` block.

    Attributes:
        folder: Everything that it writes.
        bridge: The name that a network's bridge has to have.

    Raises:
        Unavailable: None can be started here; the message says why.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable("only root can start a container engine")
        if "\toverlay\n" not in Path("/proc/filesystems").read_text():
            raise Unavailable("this kernel has no overlay file system")
        for program in ("unshare", "setpriv"):
            if shutil.which(program) is None:
                raise Unavailable(f"there is no program {program}")
        self._root = fetch_packages("engine", PACKAGES)
        self.bridge = f"vdb{os.getpid()}"
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Engine:
        remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"vdeploy-engine-{os.getpid()}-", dir=_FOLDERS))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

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

    def stop(self) -> None:
        """Ends the engine and its containers, and removes everything of it."""
        process, self._process = self._process, None
        if process is not None:
            for child in _children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        remove_leftovers(os.getpid())

    def _start(self) -> None:
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        for plugin in (self._root / "usr/libexec/docker/cli-plugins").iterdir():
            (plugins / plugin.name).symlink_to(plugin)
        (self.folder / "data").mkdir()
        (self.folder / "daemon.json").write_text("{}")
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        command += ["sh", "-c", _ON_A_DISK_OF_ITS_OWN, "sh", str(self._disk()), str(self.folder / "data")]
        command += ["dockerd", f"--host=unix://{self.folder}/socket", f"--config-file={self.folder}/daemon.json"]
        command += [
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
        ]
        command += [f"--cgroup-parent={_cgroup(os.getpid())}", "--storage-driver=overlay2", "--bridge=none"]
        command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        command += [f"--userland-proxy-path={self._root}/usr/sbin/docker-proxy"]
        command += [f"--init-path={self._root}/usr/bin/tini-static"]
        log = self.folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while "API listen on" not in log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                told = log.read_text(errors="replace").strip().splitlines()
                raise Unavailable(f"the engine does not start: {told[-1] if told else 'it told no reason'}")
            time.sleep(0.1)

    def _disk(self) -> Path:
        """A sparse file with an empty file system: a hundred thousand files of images go in one step with it."""
        disk = self.folder / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        command = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(disk)]
        with contextlib.suppress(OSError):
            subprocess.run(command, capture_output=True, check=False, timeout=START_TIMEOUT_SECONDS)
        return disk

    def _environment(self) -> dict[str, str]:
        root, inherited = self._root, {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        return inherited | {
            "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self.folder}/socket",
            "DOCKER_CONFIG": f"{self.folder}/config",
        }


def leftovers(owner: int | None = None) -> list[str]:
    """What engines have left on this machine: folders, bridges, control groups and mounts.

    Args:
        owner: The process that started them; `None` for all processes that have ended.
    """
    return [
        str(thing)
        for thing, pid in (*_folders(), *_bridges(), *_cgroups())
        if pid == owner or (owner is None and not Path(f"/proc/{pid}").exists())
    ]


def remove_leftovers(owner: int | None = None) -> None:
    """Removes what `leftovers` names."""
    for name in leftovers(owner):
        thing = Path(name)
        if thing.is_relative_to(_CGROUPS):
            for folder in sorted((path for path in thing.rglob("*") if path.is_dir()), reverse=True):
                _retry_rmdir(folder)
            _retry_rmdir(thing)
        elif thing.is_relative_to(_FOLDERS):
            shutil.rmtree(thing, ignore_errors=True)
        else:
            _delete_bridge(name)


def _retry_rmdir(folder: Path) -> None:
    """Removes a control group; the kernel needs a moment after the last process in it has ended."""
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


def _delete_bridge(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
        padded = name.encode().ljust(_NAME_SIZE, b"\0")
        fcntl.ioctl(any_socket, _FLAGS_SET, (padded + struct.pack("<H", 0)).ljust(_REQUEST_SIZE, b"\0"))
        fcntl.ioctl(any_socket, _BRIDGE_DELETE, padded)


def _cgroup(owner: int) -> str:
    return f"/vdeploy-engine-{owner}"


def _folders() -> Iterator[tuple[Path, int]]:
    yield from _owned(_FOLDERS.glob("vdeploy-engine-*-*"), r"vdeploy-engine-(\d+)-")


def _cgroups() -> Iterator[tuple[Path, int]]:
    for pattern in ("vdeploy-engine-*", "*/vdeploy-engine-*"):
        yield from _owned(_CGROUPS.glob(pattern), r"vdeploy-engine-(\d+)$")


def _bridges() -> Iterator[tuple[str, int]]:
    for path, owner in _owned(Path("/sys/class/net").glob("vdb*"), r"vdb(\d+)$"):
        yield path.name, owner


def _owned(paths: Iterator[Path], pattern: str) -> Iterator[tuple[Path, int]]:
    for path in paths:
        if found := re.match(pattern, path.name):
            yield path, int(found[1])


def _children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []
