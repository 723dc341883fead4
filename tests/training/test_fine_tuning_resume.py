"""A fine-tuning that is killed at random moments ends where an uninterrupted one ends; devices and XLA agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("fine_tuning_process.py")
EPOCHS = "40"
AWARE = ("fine_tune.quantization_aware=true",)
SHIFTED_AND_AWARE = (
    *AWARE,
    "backbone.name=efficientnet-lite0",
    "fine_tune.blocks=3",
    "fine_tune.temporal_shift=past",
)


def start(out: Path, folder: Path, epochs: str, *overrides: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(PROGRAM), str(out), str(folder), epochs, *overrides]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("overrides", [(), SHIFTED_AND_AWARE], ids=["frames", "causal shift and eight bits"])
def test_kills_at_random_moments_change_no_bit(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    _, errors = start(tmp_path / "whole.json", tmp_path / "whole", EPOCHS, *overrides).communicate()
    assert (tmp_path / "whole.json").is_file(), errors
    folder, random = tmp_path / "killed", np.random.default_rng()
    for _ in range(2):
        before = set((folder / "checkpoints").glob("epoch-*.npz"))
        process = start(tmp_path / "killed.json", folder, EPOCHS, *overrides)
        while process.poll() is None and set((folder / "checkpoints").glob("epoch-*.npz")) <= before:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.2))
        assert process.poll() is None, "the training is too short for so many kills"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    _, errors = start(tmp_path / "killed.json", folder, EPOCHS, *overrides).communicate()
    assert "going on after epoch" in errors
    assert json.loads((tmp_path / "killed.json").read_text()) == json.loads((tmp_path / "whole.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("options", "tolerance"), [((), 1e-4), (AWARE, 1e-3)], ids=["float", "quantization-aware"])
def test_two_devices_and_xla_compute_what_one_device_does(
    tmp_path: Path, options: tuple[str, ...], tolerance: float
) -> None:
    """A value that lies between two of the levels of eight bits may be rounded to either."""
    ways = {"one": (), "two": ('training.devices=["cpu:0", "cpu:1"]',), "compiled": ("training.xla=true",)}
    losses = {}
    for name, overrides in ways.items():
        file = tmp_path / f"{name}.json"
        chosen = (*overrides, *options, "training.precision=float32")
        _, errors = start(file, tmp_path / name, "5", *chosen).communicate()
        assert file.is_file(), errors
        losses[name] = json.loads(file.read_text())["losses"]
    np.testing.assert_allclose(losses["two"], losses["one"], rtol=tolerance)
    np.testing.assert_allclose(losses["compiled"], losses["one"], rtol=tolerance)
