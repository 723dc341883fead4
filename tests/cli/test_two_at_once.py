"""Of two commands that write one folder at the same time, one is refused in a line and the other is unharmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.run import Run


def both(*arguments: object) -> None:
    """Runs a command twice at the same time."""
    command = [sys.executable, "-m", "vdeploy", *map(str, arguments)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = sorted((process.communicate(timeout=300)[1], process.returncode) for process in processes)
    assert sorted(code for _, code in ends) == [0, 1], ends
    (refused,) = (told.splitlines()[-1] for told, code in ends if code)
    assert "is being written by process" in refused
    assert refused.endswith("; wait until that is done, or choose another --out")


@pytest.mark.slow
def test_trainings_and_exports(clips_dir: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    options = [word for override in TINY for word in ("--set", override)]
    both("train", clips_dir, "--out", run, "--store", tmp_path / "store", *options)
    assert Run.load(run)
    both("export", run, "--out", bundle, "--store", tmp_path / "store")
    assert Bundle(bundle).manifest.artifacts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "run", "store"]
