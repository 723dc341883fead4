"""The code blocks of the README and of the quickstart, run from top to bottom as a reader would."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdeploy.triton.server.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]
NOT_RUN = ("pip", "make")
"""Programs whose lines have tests of their own: the installation, the demo, and the tests themselves."""

SECONDS = 1200


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each block, in order."""
    yield from re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


class Reader:
    """Types what a page says in one folder, with a second terminal for the server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.grpc_port,) = free_ports(1)
        self.server: subprocess.Popen[bytes] | None = None
        self.ran = 0

    def run(self, language: str, text: str) -> None:
        text = text.replace("127.0.0.1:8001", f"127.0.0.1:{self.grpc_port}")
        if language == "python":
            self._finish([sys.executable, "-c", text])
            return
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] in NOT_RUN:
                continue
            assert words[0] == "vdeploy", line
            command = [sys.executable, "-m", "vdeploy", *words[1:]]
            if "--launch" in words:
                self._start(command)
            else:
                self._finish(command)

    def _finish(self, command: list[str]) -> None:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        self.ran += 1

    def _start(self, command: list[str]) -> None:
        ports = ("--grpc-port", str(self.grpc_port), "--metrics-port", "0")
        log = self.folder / "serve.log"
        with log.open("wb") as file:
            self.server = subprocess.Popen([*command, *ports], cwd=self.folder, stdout=file, stderr=file)
        deadline = time.monotonic() + SECONDS
        while "ready:" not in log.read_text(encoding="utf-8", errors="replace"):
            assert self.server.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.5)
        self.ran += 1

    def close(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(60)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.close()


def test_the_quickstart_works_as_it_is_written(reader):
    for language, text in blocks(ROOT / "docs" / "quickstart.md"):
        reader.run(language, text)
    for language, text in blocks(ROOT / "docs" / "reference" / "python" / "index.md"):
        reader.run(language, text)
    assert reader.ran >= 8
    assert reader.server is not None


def test_the_readme_works_as_it_is_written(reader):
    reader.run("sh", "vdeploy data synth clips --clips 16")
    shutil.copy(next((reader.folder / "clips" / "violent").iterdir()), reader.folder / "clip.mp4")
    for language, text in blocks(ROOT / "README.md"):
        reader.run(language, text)
    assert reader.ran >= 8
    assert reader.server is not None
