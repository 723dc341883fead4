"""The whole path by the commands that a user types, on a real Triton."""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HOCKEY, NARROW, Done
from vdeploy.triton.server.ports import free_ports

SHARED_MEMORY = Path("/dev/shm")

SETTINGS = ("clip.size=32", "clip.frames=4", "training.epochs=2", f"backbone.channels={NARROW}")
TINY = ("--weights", "random", *(word for setting in SETTINGS for word in ("--set", setting)))


def command(*arguments: object, code: int = 0) -> str:
    """Runs a command in a process; returns what it printed."""
    started = [sys.executable, "-m", "vdeploy", *map(str, arguments)]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@contextlib.contextmanager
def launched(bundle: Path, repository: Path, ending: signal.Signals = signal.SIGINT) -> Iterator[str]:
    """`vdeploy serve --launch` until the block ends; then Ctrl-C or so, after which nothing may be left."""
    http, grpc = free_ports(2)
    command = [sys.executable, "-m", "vdeploy", "serve", str(bundle), "--repo", str(repository), "--launch", "--json"]
    ports = ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", "0"]
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = ""
        while not ready.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            ready += line
        try:
            yield json.loads(ready)["grpc"]
        finally:
            started = time.monotonic()
            process.send_signal(ending)
            assert process.wait(30) == 0
    assert time.monotonic() - started < 20
    assert not list(SHARED_MEMORY.glob(f"vdeploy-{process.pid}-*"))
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", grpc), timeout=1):
        pass


def probabilities(answer: str) -> dict[str, float]:
    return {item["path"]: item["probability"] for item in json.loads(answer)["predictions"]}


@pytest.mark.triton
def test_from_clips_to_an_answer(clips_dir: Path, vdeploy: Callable[..., Done], tmp_path: Path) -> None:
    """The server is a process; `test_hockey` runs all commands as processes."""
    run, bundle, repository = (tmp_path / name for name in ("run", "bundle", "repository"))
    store = ("--store", tmp_path / "store")
    assert json.loads(vdeploy("data", "scan", clips_dir, "--json").out)["clips"] == 20
    trained = json.loads(vdeploy("train", clips_dir, "--out", run, *store, *TINY, "--json").out)
    assert Path(trained["report"]).is_file()
    exported = json.loads(vdeploy("export", run, "--out", bundle, *store, "--json").out)
    assert {artifact["stage"] for artifact in exported["artifacts"]} == {"extractor", "classifier"}
    evaluated = json.loads(vdeploy("evaluate", run, clips_dir, *store, "--json").out)
    with launched(bundle, repository) as url:
        served = probabilities(vdeploy("predict", clips_dir, "--url", url, "--json").out)
        local = probabilities(vdeploy("predict", clips_dir, "--bundle", bundle, "--json").out)
        rows = json.loads(vdeploy("benchmark", bundle, "--url", url, "--seconds", 0, "--json").out)["rows"]
        table = vdeploy("predict", clips_dir / "violent", "--url", url).out
    assert served.keys() == local.keys()
    assert len(served) == 20
    for path, probability in local.items():
        assert served[path] == pytest.approx(probability, abs=1e-4)
        keras = evaluated["probabilities"][str(Path(path).relative_to(clips_dir))]
        assert keras == pytest.approx(probability, abs=1e-3)
    assert len(set(served.values())) > 8
    assert [(row["what"], row["transport"]) for row in rows] == [
        *((what, None) for what in ("extractor", "classifier", "pipeline", "video")),
        *(("extractor", "grpc"), ("classifier", "grpc"), ("pipeline", "grpc"), ("pipeline", "shared memory")),
        ("video", "grpc"),
    ]
    assert all(clip.name in table for clip in (clips_dir / "violent").iterdir())


@pytest.mark.slow
@pytest.mark.triton
def test_hockey(tmp_path: Path, hockey: Path) -> None:
    """Real clips, ImageNet weights: accurate, cached, and the same answer from Keras, ONNX Runtime and Triton."""
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    few = [word for setting in HOCKEY for word in ("--set", setting)]
    metrics: dict[str, Any] = json.loads(command("train", hockey, "--out", run, *few, "--json"))["metrics"]["valid"]
    assert metrics["clips"] == 40
    assert metrics["accuracy"] >= 0.9
    assert metrics["roc_auc"] >= 0.95
    again = json.loads(command("features", hockey, *few, "--json"))
    assert (again["from_store"], again["decoded"]) == (100, 0)
    command("export", run, "--out", bundle)
    keras = json.loads(command("evaluate", run, hockey, "--split", "valid", "--json"))["probabilities"]
    with (run / "clips.csv").open(newline="") as file:
        valid = [row["path"] for row in csv.DictReader(file) if row["split"] == "valid"]
    assert set(valid) == set(keras)
    some = sorted(valid)[:: len(valid) // 12]
    clips = [hockey / path for path in some]
    with launched(bundle, tmp_path / "repository", ending=signal.SIGTERM) as url:
        served = probabilities(command("predict", *clips, "--url", url, "--json"))
    local = probabilities(command("predict", *clips, "--bundle", bundle, "--json"))
    assert len(served) == len(local) == len(some) >= 12
    for path in some:
        probability = local[str(hockey / path)]
        assert served[str(hockey / path)] == pytest.approx(probability, abs=1e-4)
        assert keras[path] == pytest.approx(probability, abs=1e-3)
