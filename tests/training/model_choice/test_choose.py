"""`vdeploy choose` on tiny models: figures, a page, the work that is kept, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from testing.waiting import eventually
from training.experiments.cross_validation import CrossValidation
from training.methods.self_supervised.trunk import MANIFEST
from training.model_choice import choose as module
from training.model_choice.candidates import Candidate
from training.model_choice.speed import Speed
from vdeploy.cli.app import app
from vdeploy.core.errors import DatasetError, LockedError, StudyError
from vdeploy.core.locks import folder_lock

RUNNER = CliRunner()
TINY = """[backbone]
name = "{backbone}"
weights = "random"
[clip]
size = 32
frames = 4
[head]
name = "pooling"
[training]
epochs = 2
"""


@pytest.fixture
def command(clips_dir: Path, tmp_path: Path) -> list[str]:
    """Two tiny models on the synthetic clips, judged once."""
    recipes = []
    for name, backbone in (("wide", "vgg19"), ("narrow", "efficientnet-lite0")):
        recipes += ["--recipe", str(tmp_path / f"{name}.toml")]
        (tmp_path / f"{name}.toml").write_text(TINY.format(backbone=backbone))
    store = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "choice")]
    return ["choose", str(clips_dir), *recipes, "--seeds", "1", *store]


def call(command: list[str]) -> str:
    return RUNNER.invoke(app, command, catch_exceptions=False).stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from vdeploy.cli.app import app; "
        "assert CliRunner().invoke(app, ['choose', '--help']).exit_code == 0; "
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_figures_a_page_and_work_that_is_kept(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = json.loads(call([*command, "--no-speed", "--json"]))
    assert (first["clips"], first["sources"], first["folds"]) == (20, 20, 5)
    assert {model["name"] for model in first["models"]} == {"wide", "narrow"}
    assert all(0 <= model["roc_auc"]["low"] <= model["roc_auc"]["high"] <= 1 for model in first["models"])
    assert first["findings"][0]["code"] == "groups missing"
    assert "Figures" in Path(first["page"]).read_text("utf-8")

    def again(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "cross_validate", again)
    second = json.loads(call([*command, "--no-speed", "--json"]))
    assert second["models"] == first["models"]


@pytest.mark.slow
def test_times_and_bundles(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[Path] = []
    monkeypatch.setattr("training.model_choice.speed.keep_speeds", lambda root, _: kept.append(root))
    monkeypatch.setattr(module, "SPEED_SECONDS", 0.2)
    result = json.loads(call([*command, "--json"]))
    assert {str(root) for root in kept} == {model["speed"]["bundle"] for model in result["models"]}
    for model in result["models"]:
        speed = model["speed"]
        assert "onnx-fp32" in speed["ms"]
        assert set(speed["ms"]) | set(speed["refused"]) == {"onnx-fp32", "onnx-int8", "openvino-int8"}
        assert speed["parameters"] > 1e6
        assert (Path(speed["bundle"]) / "bundle.json").is_file()
    text = call(command)
    assert "GFLOP" in text
    assert "<svg" in (tmp_path / "choice" / "choice.html").read_text("utf-8")
    card = (tmp_path / "choice" / "MODEL_CARD.md").read_text("utf-8")
    assert "20 clips of 20 sources." in card
    assert all(f"| {model['speed']['bundle']} |" in card for model in result["models"])


@pytest.mark.slow
def test_a_killed_choice_resumes(command: list[str], tmp_path: Path):
    whole = [sys.executable, "-m", "vdeploy", *command, "--no-speed", "--json"]
    finished = tmp_path / "choice" / "finished.json"
    with subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert eventually(
            lambda: finished.is_file() and len(json.loads(finished.read_text())["entries"]) == 2, seconds=240
        )
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "choice" / "choice.html").exists()
    before = json.loads(finished.read_text())["entries"]
    done = subprocess.run(whole, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["models"]) == 2
    after = json.loads(finished.read_text())["entries"]
    assert before.items() <= after.items()
    assert len(after) == 3


def test_too_few_sources(command: list[str]):
    few = r"2 sources in .* are too few .*; give clips of at least 4 sources, or a larger --budget"
    with pytest.raises(DatasetError, match=few):
        call([*command, "--budget", "3"])


@pytest.mark.slow
def test_another_trunk_in_the_same_folder_is_other_work(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "trunk").mkdir()
    calls: list[str] = []

    def trained(*_: object, name: str, **__: object) -> CrossValidation:
        """Stands in for trainings, which other tests run."""
        calls.append(name)
        labels = np.arange(20) % 2
        return CrossValidation(labels, np.arange(20).astype(str), labels[None] / 2 + 0.25)

    monkeypatch.setattr(module, "cross_validate", trained)
    monkeypatch.setattr(module, "check_metadata", lambda *_, **__: ({}, []))
    one_model = [*command[:2], *command[4:], "--set", "head.name=gru", "--set", f"pretrain.trunk={tmp_path / 'trunk'}"]
    for content, expected in (("one", 1), ("two", 2)):
        (tmp_path / "trunk" / MANIFEST).write_text(json.dumps({"model": {}, "sha256": content}))
        call([*one_model, "--no-speed"])
        assert calls == ["narrow"] * expected


@pytest.mark.slow
def test_a_budget_of_time_is_kept_by_timing_what_is_fast(command: list[str], monkeypatch: pytest.MonkeyPatch):
    timed: list[str] = []

    def measure(candidate: Candidate, *_: object, **__: object) -> Speed:
        """Stands in for exports, which other tests run."""
        timed.append(candidate.name)
        return Speed(candidate.name, 1, 1.0, {"onnx-fp32": 1.0}, {})

    monkeypatch.setattr(module, "measure_speed", measure)
    needed = {"wide": 1200.0, "narrow": 60.0}
    monkeypatch.setattr(module, "seconds_to_time", lambda candidate, _: needed[candidate.name])
    shown = RUNNER.invoke(app, [*command, "--budget", "15m"], catch_exceptions=False).output
    assert timed == ["narrow"]
    assert "the budget does not pay for the speed of wide, about 1200 s" in shown
    call([*command, "--budget", "60m"])
    assert timed == ["narrow", "wide"], "the work of the smaller budget is kept"


def test_a_damaged_file_of_finished_work(command: list[str], tmp_path: Path):
    (tmp_path / "choice").mkdir()
    (tmp_path / "choice" / "finished.json").write_text("{")
    with pytest.raises(StudyError, match=r"finished\.json is no file of finished trainings .* --out DIR"):
        call(command)


def test_a_file_in_the_way(command: list[str], tmp_path: Path):
    (tmp_path / "choice").write_text("years of work")
    with pytest.raises(StudyError, match=r"choice is in the way: it is no folder; choose another: --out DIR"):
        call(command)
    assert (tmp_path / "choice").read_text() == "years of work"


def test_two_choices_in_one_folder(command: list[str], tmp_path: Path):
    with (
        folder_lock(tmp_path / "choice"),
        pytest.raises(LockedError, match=f"is being written by process {os.getpid()}"),
    ):
        call(command)
