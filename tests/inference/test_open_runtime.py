"""Choosing the runtime: from the table, by the bundle, and nothing imported before its time."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.core.errors import BundleError, RunError, UserError
from vdeploy.evaluate import evaluate_on
from vdeploy.formats import FORMATS
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.open_scorer import open_scorer
from vdeploy.inference.runtimes import registry as opening
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime
from vdeploy.inference.runtimes.registry import choose_format, open_artifact

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return make_tiny_bundle(tmp_path / "bundle").root


def renamed(folder: Path, name: str) -> Bundle:
    values = json.loads((folder / MANIFEST).read_text())
    for artifact in values["artifacts"]:
        artifact["format"] = name
    (folder / MANIFEST).write_text(json.dumps(values))
    return Bundle(folder)


@pytest.mark.parametrize("entry", FORMATS.values(), ids=lambda entry: entry.name)
def test_every_runtime_of_the_table_has_its_class(entry):
    assert entry.runtime in opening._CLASSES


@pytest.mark.parametrize("runtime", opening._CLASSES)
def test_every_class_is_where_it_is_looked_for(runtime):
    name, class_name = opening._CLASSES[runtime]
    module = importlib.util.find_spec(f"vdeploy.inference.runtimes.{name}")
    assert module is not None
    assert f"class {class_name}" in Path(str(module.origin)).read_text()


def test_a_stage_is_opened_by_its_format(folder):
    assert isinstance(open_artifact(Bundle(folder), "extractor", "onnx-fp32", threads=1), OnnxRuntime)


def test_the_first_of_the_table_that_is_held_is_chosen(folder):
    assert choose_format(Bundle(folder), None) == "onnx-fp32"
    assert choose_format(Bundle(folder), "onnx-int8") == "onnx-int8"
    assert LocalScorer(renamed(folder, "onnx-fp16")).format_name == "onnx-fp16"


def test_the_classifier_may_have_a_format_of_its_own(folder):
    values = json.loads((folder / MANIFEST).read_text())
    values["artifacts"][1]["format"] = "onnx-fp16"
    (folder / MANIFEST).write_text(json.dumps(values))
    scorer = LocalScorer(Bundle(folder), "onnx-fp32", classifier_format="onnx-fp16")
    frames = np.zeros((1, 4, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(scorer.score(frames), tiny_probabilities(frames), atol=1e-6)
    assert scorer.format_name == "onnx-fp32"


def test_a_format_that_is_not_held_is_told(folder):
    with pytest.raises(BundleError, match="holds no extractor in onnx-int8, only in onnx-fp32"):
        LocalScorer(Bundle(folder), "onnx-int8")


def test_a_format_of_another_day_is_told(folder):
    with pytest.raises(BundleError, match="this vdeploy cannot run the format onnx-fp4"):
        LocalScorer(renamed(folder, "onnx-fp4"))


def test_a_bundle_without_a_whole_format_is_told(folder):
    values = json.loads((folder / MANIFEST).read_text())
    (folder / values["artifacts"].pop()["path"]).unlink()
    (folder / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(BundleError, match="holds no format with both stages"):
        choose_format(Bundle(folder), None)


def test_a_scorer_runs_the_chosen_format(folder):
    renamed(folder, "onnx-fp16")
    with open_scorer(bundle=folder, format_name="onnx-fp16") as scorer:
        assert scorer.score(np.zeros((1, 4, 32, 32, 3), np.uint8)).shape == (1, 2)
    with (
        pytest.raises(BundleError, match="holds no extractor in onnx-fp32"),
        open_scorer(bundle=folder, format_name="onnx-fp32"),
    ):
        pass


def test_a_server_has_chosen_its_format(folder):
    with pytest.raises(UserError, match="a server ignores --format"), open_scorer(url="h:1", format_name="onnx-fp32"):
        pass


def test_a_run_has_no_format(tiny_run, clips_dir, tmp_path):
    with pytest.raises(RunError, match="is a run, which ignores --format"):
        evaluate_on(tiny_run.root, clips_dir, split="all", positive=(), store_root=tmp_path, format_name="onnx-fp32")


def test_a_bundle_is_evaluated_in_the_chosen_format(folder, clips_dir, tmp_path):
    renamed(folder, "onnx-fp16")
    result = evaluate_on(folder, clips_dir, split="all", positive=(), store_root=tmp_path, format_name="onnx-fp16")
    assert len(result.probabilities) == 20


def test_no_runtime_is_imported_before_it_is_asked_for():
    heavy = "{'onnxruntime', 'tensorflow', 'ai_edge_litert', 'tensorrt'}"
    code = f"import sys, vdeploy.inference.runtimes.registry\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
