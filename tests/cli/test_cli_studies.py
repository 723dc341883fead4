"""`ablate`, `tune`, `lr-find` and `features --ray` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.recipe import Recipe
from vdeploy.cli.app import app
from vdeploy.core.errors import RecipeError, StudyError

RUNNER = CliRunner()


@pytest.fixture
def call(clips_dir: Path, tiny_overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Calls a verb on tiny clips, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    sets = [part for override in tiny_overrides for part in ("--set", override)]

    def run(verb: str, *options: str) -> str:
        arguments = [verb, str(clips_dir), *sets, "--store", str(tmp_path / "store"), *options]
        return RUNNER.invoke(app, arguments, catch_exceptions=False).stdout

    return run


@pytest.mark.parametrize("verb", ["ablate", "tune", "lr-find", "features"])
def test_help_imports_nothing_heavy(verb: str) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from vdeploy.cli.app import app; "
        f"assert CliRunner().invoke(app, [{verb!r}, '--help']).exit_code == 0; "
        "print(sorted({'tensorflow', 'keras', 'optuna', 'ray', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_lr_find_prints_a_rate_and_draws_the_curve(call, tmp_path: Path) -> None:
    text = call("lr-find", "--steps", "12", "--low", "1e-4", "--out", "curve.svg")
    assert "suggested learning rate: " in text
    assert "--set optimizer.learning_rate=" in text
    assert (tmp_path / "curve.svg").is_file()


def test_lr_find_refuses_a_suffix_before_it_works(call) -> None:
    with pytest.raises(StudyError, match=r"curve\.pdf"):
        call("lr-find", "--out", "curve.pdf")


@pytest.mark.slow
def test_ablate_prints_a_row_for_each_rung_and_remembers(call, tmp_path: Path) -> None:
    options = ("--seeds", "2", "--imbalance", "70/30", "--set", "training.epochs=1")
    text = call("ablate", *options)
    assert [line.split("  ")[0] for line in text.splitlines() if line.startswith("+")] == [
        "+ class weights",
        "+ focal loss",
        "+ label smoothing",
        "+ warm-up and cosine",
        "+ dropout",
        "+ weight decay",
    ]
    assert "70/30 with non-violent clips rare" in text
    again = json.loads(call("ablate", *options, "--json"))
    assert len(json.loads((tmp_path / "studies" / "clips.json").read_text())["trainings"]) == 2 * len(again["rows"])


def test_ablate_refuses_a_bad_ratio_before_it_works(call) -> None:
    with pytest.raises(StudyError, match="FREQUENT/RARE"):
        call("ablate", "--imbalance", "78")


@pytest.fixture
def grouped_csv(clips_dir: Path, tmp_path: Path) -> Path:
    """The clips as a CSV of ten sources."""
    rows = [(path, path.parent.name) for path in sorted(clips_dir.glob("*/*.*"))]
    lines = [f"{path},{label},s{number % 10}" for number, (path, label) in enumerate(rows)]
    file = tmp_path / "grouped.csv"
    file.write_text("\n".join(["path,label,group", *lines, ""]))
    return file


@pytest.mark.slow
def test_ablate_compares_methods_by_source_where_clips_name_theirs(
    grouped_csv: Path, tiny_overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = [part for override in tiny_overrides for part in ("--set", override)]
    arguments = ["ablate", str(grouped_csv), "--recipe", "edge", *sets, "--store", "store", "--seeds", "1"]

    def run(*options: str) -> str:
        return RUNNER.invoke(app, [*arguments, *options], catch_exceptions=False).stdout

    text = run("--method", "class weights", "--method", "label smoothing")
    assert [line.split("  ")[0] for line in text.splitlines() if line[0] in "+-"] == [
        "- class weights",
        "+ label smoothing",
    ]
    assert "20 clips of 10 sources, 5 folds, mean over 1 seeds" in text.splitlines()
    assert "2 differences of accuracy, tested together at 0.05" in text
    assert "finished folds: studies/grouped-by-source.json" in text
    known = (tmp_path / "studies" / "grouped-by-source.json").read_text()
    again = json.loads(run("--method", "label smoothing", "--json"))
    assert [row["name"] for row in again["rows"]] == ["the recipe", "+ label smoothing"]
    assert (tmp_path / "studies" / "grouped-by-source.json").read_text() == known


def test_ablate_refuses_methods_without_sources_and_unknown_ones(call) -> None:
    with pytest.raises(StudyError, match=r"--method compares by source.*give a CSV with a group column"):
        call("ablate", "--method", "mixup")
    with pytest.raises(StudyError, match="did you mean 'curriculum'"):
        call("ablate", "--method", "curiculum")


def test_ablate_refuses_a_teacher_by_source_before_it_extracts(grouped_csv: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "study.json"
    arguments = ["ablate", grouped_csv, "--set", "distill.teacher=runs/five", "--store", store, "--out", out]
    with pytest.raises(StudyError, match=r"cannot tell what a teacher has seen; set distill\.teacher = \"\", or give"):
        RUNNER.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert not store.exists()


@pytest.mark.slow
def test_tune_writes_a_recipe_that_train_takes(call, tmp_path: Path) -> None:
    from training.recipe import load_recipe

    options = ("--trials", "2", "--study", "s.db", "--set", "label_noise.action=none", "--model", "edge")
    result = json.loads(call("tune", *options, "--json"))
    assert result["trials"] == 2
    assert load_recipe(str(tmp_path / "s.toml")).model_dump(mode="json") == result["recipe"]
    assert result["recipe"]["label_noise"]["action"] == "none"
    assert result["parameters"]["model"] in {"default", "edge"}
    text = call("tune", *options)
    assert "best of 2 trials, 0 of them pruned" in text
    assert "in cross-validation by source: the best of 2, so expect less on other clips" in text


def test_tune_tries_both_recipes_of_one_name(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "edge.toml").write_text('[backbone]\nname = "vgg19"\n')
    tried: dict[str, Recipe] = {}

    def refuse(_dataset: object, models: dict[str, Recipe], *_: object, **__: object) -> None:
        tried.update(models)
        raise StudyError("no search", "this is a test")

    monkeypatch.setattr("training.experiments.tuning.search", refuse)
    with pytest.raises(StudyError, match="no search"):
        call("tune", "--recipe", "edge", "--model", "mine/edge.toml", "--model", "edge")
    assert {name: recipe.backbone.name for name, recipe in tried.items()} == {
        "edge": "efficientnet-lite0",
        "edge-2": "vgg19",
    }


def test_a_wrong_key_is_told_as_everywhere(call) -> None:
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        call("tune", "--set", "training.epoch=3")


def test_workers_without_a_cluster_are_a_wrong_call(clips_dir: Path) -> None:
    result = RUNNER.invoke(app, ["features", str(clips_dir), "--workers", "2"])
    assert result.exit_code == 2
    assert "--ray local" in result.output
