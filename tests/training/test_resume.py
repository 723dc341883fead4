"""A training that is killed at random moments, or meets a full disk, ends where an uninterrupted one ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from training.engine.checkpoints import CheckpointFolder

PROGRAM = Path(__file__).with_name("training_processes.py")
OPTIONS = (
    *("training.epochs=120", "training.patience=120"),
    *("augment.mixup=0.3", "augment.cutmix=1.0", "augment.frame_jitter=0.2"),
)


def start(out: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(PROGRAM), str(out), str(folder), *options]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    """Each kill falls somewhere into the training proper, which a new checkpoint announces."""
    finish(start(tmp_path / "whole.json", tmp_path / "whole", *OPTIONS))
    folder, random, kills = tmp_path / "killed", np.random.default_rng(), 0
    while kills < 3:
        before = set((folder / "checkpoints").glob("epoch-*.npz"))
        process = start(tmp_path / "killed.json", folder, *OPTIONS)
        while process.poll() is None and set((folder / "checkpoints").glob("epoch-*.npz")) <= before:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.2))
        assert process.poll() is None, "the training is too short for so many kills"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    errors = finish(start(tmp_path / "killed.json", folder, *OPTIONS))
    assert "going on after epoch" in errors
    assert json.loads((tmp_path / "killed.json").read_text()) == json.loads((tmp_path / "whole.json").read_text())
    one, other = (CheckpointFolder(tmp_path / name / "checkpoints").latest() for name in ("whole", "killed"))
    assert one is not None
    assert other is not None
    for mine, theirs in zip((*one.model, *one.optimizer), (*other.model, *other.optimizer), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def fill(file: Path) -> None:
    """Appends to a file until the disk is full."""
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as handle:
        while handle.write(b"0" * 1024):
            pass


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_clear_line_and_the_training_goes_on_later(tmp_path: Path) -> None:
    """The folder is a small file system of its own where mounting is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    options = (*OPTIONS, "training.epochs=6")
    try:
        finish(start(tmp_path / "first.json", disk / "run", *OPTIONS, "training.epochs=6"))
        ballast = disk / "ballast"
        fill(ballast)
        last = CheckpointFolder(disk / "run" / "checkpoints").latest()
        for newest in (disk / "run" / "checkpoints").glob("epoch-00006.npz"):
            newest.unlink()
        fill(ballast)
        process = start(tmp_path / "second.json", disk / "run", *options)
        _, errors = process.communicate(timeout=300)
        assert process.returncode != 0
        assert "cannot write a checkpoint to" in errors
        assert "free some space and run the same command again" in errors
        earlier = CheckpointFolder(disk / "run" / "checkpoints").latest()
        assert last is not None
        assert earlier is not None
        assert (last.epoch, earlier.epoch) == (6, 5)
        ballast.unlink()
        finish(start(tmp_path / "second.json", disk / "run", *options))
        assert json.loads((tmp_path / "second.json").read_text()) == json.loads((tmp_path / "first.json").read_text())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
