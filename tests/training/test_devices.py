"""One device, two devices and two machines train alike; a device that is not there is one clear line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.devices import is_chief, open_strategy
from training.errors import RecipeError
from training.recipe import load_recipe
from training.trainer import FeatureSplit, Trainer

PROGRAM = Path(__file__).with_name("training_processes.py")

TOLERANCE = 1e-5
"""Relative difference of losses in float32: only the order of additions differs, with dropout and mixup as well, for
all that is random is drawn for the global batch."""

DROPOUT = ("training.precision=float32", "augment.mixup=0.4", "augment.frame_jitter=0.2")


def start(
    out: Path, folder: Path, *overrides: str, cluster: tuple[list[str], int] | None = None
) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("TF_CONFIG", None)
    if cluster is not None:
        task = {"type": "worker", "index": cluster[1]}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster[0]}, "task": task})
    command = [sys.executable, str(PROGRAM), str(out), str(folder), *overrides]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str], out: Path) -> dict[str, Any]:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return json.loads(out.read_text())


def curve(tmp_path: Path, name: str, *overrides: str) -> dict[str, Any]:
    out = tmp_path / f"{name}.json"
    return result(start(out, tmp_path / name, *overrides), out)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
@pytest.mark.parametrize("options", [DROPOUT, (*DROPOUT, "training.xla=true"), ("training.precision=mixed_float16",)])
def test_two_devices_give_the_losses_of_one(tmp_path: Path, options: tuple[str, ...]) -> None:
    one = curve(tmp_path, "one", *options)
    two = curve(tmp_path, "two", *options, "training.devices=['cpu:0', 'cpu:1']")
    tolerance = TOLERANCE if "training.precision=float32" in options else 1e-3
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=tolerance)


@pytest.mark.slow
def test_two_workers_give_the_losses_of_one_device_and_the_first_one_writes(tmp_path: Path) -> None:
    one = curve(tmp_path, "one", *DROPOUT)
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    outs = [tmp_path / f"worker{index}.json" for index in range(2)]
    running = [
        start(out, tmp_path / "workers" / str(index), *DROPOUT, cluster=(workers, index))
        for index, out in enumerate(outs)
    ]
    first, second = (result(process, out) for process, out in zip(running, outs, strict=True))
    assert first == second
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=TOLERANCE)
    assert list((tmp_path / "workers" / "0" / "checkpoints").iterdir())
    assert not (tmp_path / "workers" / "1").exists()


def test_a_gpu_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"asks for gpu:7, which is not there; TensorFlow sees .*cpu:0.*see: vdeploy doctor"
    ):
        open_strategy(("gpu:7",))


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path / "out", tmp_path / "run", "training.devices=['cpu:0', 'cpu:1']", "training.batch=7")
    _, errors = process.communicate(timeout=240)
    assert "training.batch = 7 cannot be divided among 2 devices; choose a multiple" in errors


def test_a_damaged_cluster_description_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("{", "[]", '{"cluster": 3}'):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(RecipeError, match="TF_CONFIG is no cluster description"):
            open_strategy("auto")


def test_a_cluster_that_is_joined_too_late_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    open_strategy(("cpu:0",))
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}})
    )
    assert not is_chief()
    features, labels = np.zeros((4, 2, 3), np.float16), np.arange(4) % 2
    split = FeatureSplit(features, labels)
    with pytest.raises(RecipeError, match="cannot be joined"):
        Trainer(load_recipe("default"), split, split, tmp_path)
