"""The comparison of quantization-aware training: what is trained, and what an export says of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.quantization_aware import _held_out, measure
from training.recipe import load_recipe, recipe_of_run
from vdeploy.artifacts.bundle import Bundle

SMALL = ("backbone.weights=random", "clip.frames=2", "clip.size=32", "fine_tune.blocks=1", "training.epochs=1")


@pytest.mark.slow
def test_a_training_is_exported_judged_and_used_again(clips_dir: Path, tmp_path: Path) -> None:
    options = argparse.Namespace(data=clips_dir, work=tmp_path / "work", store=tmp_path / "store")
    recipe = load_recipe("edge", SMALL)
    row = measure(recipe, True, 3, options)
    made = recipe_of_run(tmp_path / "work" / "aware-3")
    assert made.fine_tune.quantization_aware
    assert (made.training.seed, made.split_seed) == (3, recipe.split_seed)
    assert row["clips"] > 0
    assert (row["layers_in_float"] is None) == (row["rejected"] is not None)
    assert measure(recipe, True, 3, options) == row


def test_what_an_export_has_refused_is_told_with_its_figures(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(tiny_bundle_dir)
    (tmp_path / "mine.rejected").mkdir()
    refused = {"format": "onnx-int8", "reason": "2 of 22 verdicts differ", "evidence": {"held_out": {"clips": 22}}}
    (tmp_path / "mine.rejected" / "rejected.json").write_text(json.dumps([{"format": "tflite-int8"}, refused]))
    row = _held_out(Bundle(tmp_path / "mine"))
    assert (row["rejected"], row["clips"], row["layers_in_float"]) == ("2 of 22 verdicts differ", 22, None)
