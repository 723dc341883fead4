"""One device, two devices and two machines train alike; a device that is not there is one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.engine.devices import is_chief, open_strategy
from training.engine.trainer import FeatureSplit, Trainer
from training.recipe import load_recipe
from vdeploy.core.errors import RecipeError
from vdeploy.triton.server.ports import free_ports

PROGRAM = Path(__file__).with_name("training_processes.py")
PRETRAINING = Path(__file__).with_name("pretraining_processes.py")

TOLERANCE = 1e-5
"""Relative difference of losses in float32: only the order of additions differs, with dropout and mixup as well, for
all that is random is drawn for the global batch."""

DROPOUT = ("training.precision=float32", "augment.mixup=0.4", "augment.cutmix=1.0", "augment.frame_jitter=0.2")


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (*DROPOUT, "averaging.decay=0.8"),
        (*DROPOUT, "training.xla=true"),
        ("training.precision=mixed_float16",),
    ],
)
def test_two_devices_give_the_losses_of_one(tmp_path: Path, options: tuple[str, ...]) -> None:
    one = curve(tmp_path, "one", *options)
    two = curve(tmp_path, "two", *options, "training.devices=['cpu:0', 'cpu:1']")
    tolerance = TOLERANCE if "training.precision=float32" in options else 1e-3
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=tolerance)
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=10 * tolerance)


@pytest.mark.slow
def test_both_views_of_a_window_stay_on_one_device_in_a_pretraining(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(PRETRAINING), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert np.isfinite(found["three devices"]).all()
    np.testing.assert_allclose(found["two devices, views alike"], [0, 0], atol=1e-9)
    assert found["two devices, three windows"] == (
        "a batch of 3 windows is too small for 2 devices, each of which compares at least two; "
        "raise pretrain.batch, give more footage, or name one device in training.devices"
    )


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


@pytest.mark.slow
def test_two_workers_follow_the_curriculum_of_one_teacher(tmp_path: Path) -> None:
    options = (*DROPOUT, "curriculum.pacing=exponential", "curriculum.step_epochs=1")
    one = curve(tmp_path, "one", *options)
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    outs = [tmp_path / f"worker{index}.json" for index in range(2)]
    running = [start(out, tmp_path / "shared", *options, cluster=(workers, index)) for index, out in enumerate(outs)]
    first, second = (result(process, out) for process, out in zip(running, outs, strict=True))
    assert first == second
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=TOLERANCE)


@pytest.mark.slow
def test_two_workers_make_one_run_from_clips(clips_dir: Path, tmp_path: Path) -> None:
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    overrides = ["backbone.weights=random", "clip.size=32", "clip.frames=4", "training.epochs=2", "training.batch=8"]
    options = [option for override in (*overrides, "training.precision=float32") for option in ("--set", override)]

    def train(name: str, **cluster: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vdeploy", "train", str(clips_dir), "--out", str(tmp_path / name), "--json"]
        command += ["--store", str(tmp_path / "features"), *options]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **cluster}
        return subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    tasks = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}} for index in range(2)]
    running = [train("both", TF_CONFIG=json.dumps(task)) for task in tasks]
    (first, said_first), (second, said_second) = (process.communicate(timeout=240) for process in running)
    assert [process.returncode for process in running] == [0, 0], said_first + said_second
    assert "extract features" in said_first
    assert "nothing to decode, nothing to extract" in said_second
    assert json.loads(first) == json.loads(second)
    alone = train("alone")
    _, said = alone.communicate(timeout=240)
    assert alone.returncode == 0, said
    assert not list(tmp_path.glob("*.partial"))
    histories = [np.loadtxt(tmp_path / name / "history.csv", delimiter=",", skiprows=1) for name in ("both", "alone")]
    np.testing.assert_allclose(histories[0][:, 1:3], histories[1][:, 1:3], rtol=TOLERANCE)


@pytest.mark.slow
def test_a_worker_that_waits_for_one_that_has_failed_says_so(clips_dir: Path, tmp_path: Path) -> None:
    """The first worker cannot write its run; the second one must not wait for ever."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    (tmp_path / "file").touch()
    running = []
    for index, store in enumerate(["file", "features"]):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, "-m", "vdeploy", "train", str(clips_dir), "--out", str(tmp_path / "run")]
        command += ["--store", str(tmp_path / store), "--weights", "random", "--set", "clip.size=32"]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": json.dumps(task)}
        running.append(
            subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment, stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate(timeout=240)[1] for process in running]
    assert [process.returncode for process in running] == [1, 1]
    assert "feature store" in errors[0]
    assert "another worker of TF_CONFIG has ended" in errors[1]
    assert "Traceback" not in "".join(errors)


def test_a_gpu_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"asks for gpu:7, which is not there; TensorFlow sees .*cpu:0.*see: vdeploy doctor"
    ):
        open_strategy(("gpu:7",))


@pytest.mark.slow
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
