"""What the benchmarks really give is what their sections are made of: each in its smallest setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results.catalogue import STUDIES
from benchmarks.results.command import output_of
from benchmarks.results.markdown import paragraph
from benchmarks.results.record import make_measurement
from testing.debian import Unavailable
from testing.nginx import find_nginx
from testing.tiny_bundle import make_tiny_bundle
from tests.conftest import TINY

pytestmark = pytest.mark.slow

BY_NAME = {study.name: study for study in STUDIES}
SETTINGS = [word for setting in TINY for word in ("--set", setting)]


def section(study: str, step: str, words: list[str | Path], folder: Path) -> str:
    """Runs a command and gives the text of its section, as it is when the record has nothing but this step."""
    told: list[str] = []
    (known,) = (each for each in BY_NAME[study].steps if each.name == step)
    output = output_of([str(word) for word in words], folder, told.append)
    kept = make_measurement("", known.keep(output)).result
    return "\n".join(
        block if block.startswith("|") else paragraph(block) for block in BY_NAME[study].describe({step: kept})
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny").root


def test_accuracy_and_exports(tmp_path, clips_dir):
    runs = tmp_path / "runs"
    words = ["vdeploy", "train", clips_dir, "--out", runs / "tiny", "--store", tmp_path / "store", *SETTINGS]
    (tmp_path / "one").mkdir()
    assert "| 0 | " in section("accuracy", "seed 0", words, tmp_path / "one")
    (tmp_path / "two").mkdir()
    words = ["vdeploy", "export", runs / "tiny", "--store", tmp_path / "store", "--format", "onnx-fp32"]
    assert "| onnx-fp32 | " in section("exports", "exports", words, tmp_path / "two")


def test_studies_of_losses(tmp_path, clips_dir):
    words = ["python", "-m", "benchmarks.imbalance", clips_dir, "--ratio", "60/40", "--seeds", "2", *SETTINGS]
    text = section("imbalance", "default", [*words, "--store", tmp_path / "store"], tmp_path)
    assert "Mean over 2 seeds" in " ".join(text.split())
    assert "| cross-entropy | " in text


@pytest.mark.parametrize(
    ("study", "options", "shown"),
    [
        ("timeline", ["--minutes", "0.3", "--piece", "0.2"], "| window every, s |"),
        ("events", ["--videos", "1", "--minutes", "0.3"], "| usual rule | seconds |"),
    ],
)
def test_long_videos(tmp_path, bundle, clips_dir, study, options, shown):
    words = ["python", "-m", f"benchmarks.{study}", "--bundle", bundle, clips_dir, "--split", "all", *options]
    assert shown in section(study, study, words, tmp_path)


@pytest.mark.parametrize(
    ("step", "options", "shown"),
    [
        ("closed loop", ["--seconds", "0.5", "--clients", "1", "2"], "| 2 | "),
        ("90 a second", ["--rate", "5", "--seconds", "1"], "| 5 | "),
        ("soak", ["--soak", "0.05"], "files left: 0"),
    ],
)
def test_the_gateway(tmp_path, step, options, shown):
    words = ["python", "-m", "benchmarks.gateway", "--frames", "4", "--size", "32", *options]
    assert shown in section("gateway", step, words, tmp_path)


def test_mutated_videos(tmp_path):
    text = section("gateway", "mutations", ["python", "-m", "benchmarks.mutations", "--count", "12"], tmp_path)
    assert text.startswith("12 mutated videos: no crash")


@pytest.mark.triton
def test_rollouts(tmp_path, install):
    words = ["python", "-m", "benchmarks.rollout", "--requests", "50", "--changes", "1", "--kills", "0"]
    assert "| 0 | 1 | 0 | " in section("rollout", "seed 0", words, tmp_path)


@pytest.mark.triton
def test_several_tritons(tmp_path, install):
    try:
        find_nginx()
    except Unavailable as reason:
        pytest.skip(str(reason))
    words = ["python", "-m", "benchmarks.instances", "--instances", "1", "--seconds", "0.5", "--clients", "1"]
    assert "| 1 | nginx | " in section("instances", "1 and 2", words, tmp_path)


@pytest.mark.triton
def test_a_served_bundle(tmp_path, bundle, install):
    words = ["vdeploy", "benchmark", bundle, "--what", "pipeline", "--serve", "--seconds", "0.3"]
    assert "| onnx-fp32 | shared memory | 1 | " in section("served", "served", words, tmp_path)


def test_inference(tmp_path, bundle):
    words = ["python", "-m", "benchmarks.inference", bundle, "--seconds", "0", "--peers", "tensorflow-predict"]
    text = section("inference", "inference", words, tmp_path)
    assert "layer avg, 4 frames of 32 px" in text
    assert "| onnx-fp32" in text
