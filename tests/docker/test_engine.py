"""The tests' engine leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testing.debian import Unavailable
from testing.waiting import eventually
from tests.docker.engine import Engine
from tests.docker.leftovers import leftovers, remove_leftovers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

OWNER = """
import time
from tests.docker.engine import Engine
with Engine() as engine:
    engine.docker("network", "create", "--opt", f"com.docker.network.bridge.name={engine.bridge}", "test")
    print(engine.folder, engine.bridge, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    try:
        with Engine() as engine:
            assert engine.docker("ps", "--quiet") == ""
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not leftovers(engine.mark)


def processes_in(folder: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_a_failing_test_takes_its_engine_along():
    engine = Engine()
    with contextlib.suppress(AssertionError), engine:
        engine.docker("no-such-verb")
        pytest.fail("docker has done something unknown")
    folder = engine.folder
    assert not folder.exists()
    assert not leftovers(engine.mark)
    assert not processes_in(str(folder))


def test_a_killed_owner_takes_its_engine_along_and_the_next_one_sweeps_up():
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder, bridge = owner.stdout.readline().split()
        assert processes_in(folder)
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: not processes_in(folder))
    assert folder not in Path("/proc/mounts").read_text()
    assert {folder, bridge} <= set(leftovers())
    remove_leftovers()
    assert not leftovers()
