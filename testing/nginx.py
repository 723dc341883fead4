"""nginx in front of several Tritons: the one on PATH, or Debian's."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from testing.debian import Unavailable, fetch_packages
from vdeploy.triton.server.ports import free_ports

__all__ = ["find_nginx", "nginx_before"]

TEMPLATE = Path(__file__).parents[1] / "docker" / "nginx" / "tritons.conf.template"
START_TIMEOUT_SECONDS = 10.0


@contextlib.contextmanager
def nginx_before(urls: Sequence[str], program: Path, folder: Path) -> Iterator[str]:
    """Runs nginx in front of Tritons while the block lasts, with the template of `docker/nginx`.

    Args:
        urls: gRPC addresses of the Tritons.
        program: nginx.
        folder: Takes its files.

    Yields:
        Its address.
    """
    (port,) = free_ports(1)
    server = TEMPLATE.read_text(encoding="utf-8").replace("${LISTEN}", f"127.0.0.1:{port}")
    server = server.replace("${TRITONS}", " ".join(f"server {url};" for url in urls))
    paths = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"worker_processes 1;\ndaemon off;\nuser root;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{paths}\n{server}\n}}\n",
        encoding="utf-8",
    )
    command = [str(program), "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process, folder / "error.log")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def find_nginx() -> Path:
    """The nginx on PATH, or Debian's out of the cache.

    Raises:
        Unavailable: There is none.
    """
    if found := shutil.which("nginx"):
        return Path(found)
    return fetch_packages("nginx", ["nginx/bookworm"]) / "usr" / "sbin" / "nginx"


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            output = log.read_text(encoding="utf-8").strip() if log.is_file() else ""
            raise Unavailable(f"nginx does not start: {output or 'it printed no reason'}")
        time.sleep(0.05)
