"""A real gateway in a separate process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass
class Running:
    """A gateway.

    Attributes:
        url: Where it listens.
        process: Its process.
        spool: Its folder for uploads.
        lines: What it has logged so far.
    """

    url: str
    process: subprocess.Popen[str]
    spool: Path
    lines: list[str]

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def records(self, event: str) -> list[dict[str, Any]]:
        """Log lines about something."""
        parsed = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [record for record in parsed if record["event"] == event]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def children(self) -> list[int]:
        """Ids of the gateway's processes below it."""
        return descendants(self.process.pid)

    def files(self) -> list[Path]:
        """What lies in its folder for uploads."""
        return [path for path in self.spool.rglob("*") if path.is_file()]


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


@contextlib.contextmanager
def running_gateway(
    spool: Path, *options: str, command: Sequence[str] = (sys.executable, "-m", "vdeploy"), folder: Path = ROOT
) -> Iterator[Running]:
    """Starts `vdeploy gateway` on a free port, and ends it when the block does.

    Args:
        spool: Folder for its uploads.
        options: Further arguments.
        command: What starts `vdeploy`.
        folder: Its working directory.
    """
    process = subprocess.Popen(
        [*command, "gateway", "--port", "0", "--spool", str(spool), *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines: list[str] = []
    started: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                lines.append(line)
                if found := re.match(r"gateway: (\S+) serves", line):
                    started.put(found[1])
        started.put("")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        url = started.get(timeout=120)
        assert url, "".join(lines)
        yield Running(url, process, spool, lines)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(150)  # what is in work is finished first, which takes long on a loaded machine
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        reader.join(60)
