"""Ensembles: the mean of their members in every format, refused where members do not fit, never half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TINY
from tests.training.one_model import check_every_format
from training.methods import ensembling
from training.methods.ensembling import make_ensemble, train_seeds
from training.pipeline import train
from training.recipe import Recipe, load_recipe, recipe_of_run
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import ExportError, RecipeError, RunError, UserError
from vdeploy.dataset import Dataset
from vdeploy.evaluate import evaluate_on
from vdeploy.evaluation.thresholds import choose_threshold
from vdeploy.triton.server.install import TritonInstall
from vdeploy.video.clips import read_clip

pytestmark = pytest.mark.slow

SMALL = (*TINY, "head.units=8", "head.dense=8", "decision.threshold=f1")
FEATURES = np.random.default_rng(0).gamma(0.5, 20, (5, 4, 512)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("default", SMALL)


@pytest.fixture(scope="module")
def interrupted(clips_dir: Path, store: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an ensemble of two seeds whose members were trained when the disk was full."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path_factory.mktemp("runs") / "seeds"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensembling, "_write", fail)
        with pytest.raises(OSError, match="No space"):
            train_seeds(clips_dir, out, recipe, 2, store_root=store)
    assert [path.name for path in out.parent.iterdir()] == ["seeds.partial"]
    return out


@pytest.fixture(scope="module")
def seeds(interrupted: Path, clips_dir: Path, store: Path, recipe: Recipe) -> Run:
    """The same ensemble, finished by the same command; read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensembling, "train_on", None)  # the members are not trained again
        return train_seeds(clips_dir, interrupted, recipe, 2, store_root=store)


@pytest.fixture(scope="module")
def members(seeds: Run, clips_dir: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs with an LSTM, with another LSTM, and with a GRU, on the same splits; read only."""
    gru = load_recipe("default", [*TINY, "head.name=gru", "head.units=8", "decision.threshold=f1"])
    other = train(clips_dir, tmp_path_factory.mktemp("runs") / "gru", gru, store_root=store)
    return [*sorted((seeds.root / "members").iterdir()), other.root]


def mean_of(roots: list[Path], features: Any = FEATURES) -> Any:
    """The mean of what the classifiers of runs say, in float64."""
    return np.mean([Run.load(root).classifier()(features).numpy().astype(np.float64) for root in roots], axis=0)


def test_seeds_differ_in_the_training_alone(seeds: Run, recipe: Recipe) -> None:
    one, other = (Run.load(root) for root in sorted((seeds.root / "members").iterdir()))
    assert [member.seed for member in seeds.info.members] == [0, 1]
    assert [recipe_of_run(run.root).training.seed for run in (one, other)] == [0, 1]
    assert [(run.info.seed, recipe_of_run(run.root).split_seed) for run in (one, other)] == [(0, 0), (0, 0)]
    assert (one.root / "clips.csv").read_bytes() == (other.root / "clips.csv").read_bytes()
    assert recipe_of_run(one.root).varied(data={"seed": "auto"}) == recipe
    assert np.abs(mean_of([one.root]) - mean_of([other.root])).max() > 1e-4


def test_an_ensemble_is_the_mean_of_its_members(members: list[Path], tmp_path: Path, store: Path) -> None:
    run = make_ensemble(members, tmp_path / "e", store_root=store)
    np.testing.assert_allclose(run.classifier()(FEATURES).numpy(), mean_of(members), rtol=0, atol=1e-6)
    assert [settings.name for settings in run.head.settings.members] == ["lstm", "lstm", "gru"]
    assert [member.sha256 for member in run.info.members] == [Run.load(m).info.classifier_sha256 for m in members]
    assert run.info.stage("classifier").parameters == sum(
        Run.load(member).info.stage("classifier").parameters or 0 for member in members
    )
    report = (run.root / "report.html").read_text(encoding="utf-8")
    assert "An ensemble of 3 runs, seed-0, seed-1, gru: the mean of their probabilities." in report
    assert "2 x lstm (units 8" in report


def test_the_threshold_and_the_figures_are_those_of_the_mean(seeds: Run, clips_dir: Path, store: Path) -> None:
    found = evaluate_on(seeds.root, clips_dir, split="all", positive=(), store_root=store)
    clips = Dataset.read_csv(seeds.root / "clips.csv").clips
    for split in ("valid", "test"):
        labels = [clip.label for clip in clips if clip.split == split]
        scores = np.array([found.probabilities[clip.path] for clip in clips if clip.split == split])
        if split == "valid":
            assert seeds.info.threshold == choose_threshold(labels, scores, by="f1")
        right = np.mean((scores >= seeds.info.threshold) == np.array(labels))
        assert seeds.metrics[split]["accuracy"] == pytest.approx(right)


def test_an_interrupted_training_of_seeds_goes_on_where_it_stopped(seeds: Run) -> None:
    assert len(seeds.info.members) == 2
    assert [path.name for path in seeds.root.parent.iterdir()] == ["seeds"]


def test_one_seed_is_a_run_as_ever(clips_dir: Path, store: Path, recipe: Recipe, tmp_path: Path, seeds: Run) -> None:
    run = train_seeds(clips_dir, tmp_path / "one", recipe, 1, store_root=store)
    assert not run.info.members
    np.testing.assert_array_equal(
        run.classifier()(FEATURES).numpy(), Run.load(seeds.root / "members" / "seed-0").classifier()(FEATURES).numpy()
    )


def changed(source: Path, target: Path, file: str, old: str, new: str) -> Path:
    """A copy of a run with something else in one of its files."""
    shutil.copytree(source, target)
    text = (target / file).read_text(encoding="utf-8")
    assert old in text
    (target / file).write_text(text.replace(old, new), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("run.json", '"size": 32', '"size": 48', r"clip\.size differs: 32 and 48"),
        ("run.json", '"frames": 4', '"frames": 3', r"of 4 frames, 3 cannot be taken evenly spaced"),
        ("run.json", '"non_violent"', '"calm"', r"the classes differs: non_violent, violent and calm, violent"),
        ("recipe.toml", 'threshold = "f1"', "threshold = 0.4", r"decision\.threshold differs: f1 and 0\.4"),
        ("clips.csv", ",valid,", ",train,", r"other clips or splits: .*\.mp4 is valid with label \d and train"),
    ],
)
def test_runs_that_do_not_fit_are_refused(members, tmp_path, store, file, old, new, reason) -> None:
    other = changed(members[1], tmp_path / "other", file, old, new)
    with pytest.raises(RunError, match=reason) as caught:
        make_ensemble([members[0], other], tmp_path / "e", store_root=store)
    assert str(members[0]) in str(caught.value)
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_other_seeds_draw_other_splits_unless_the_recipe_says_so(members, clips_dir, store, tmp_path) -> None:
    other = train(clips_dir, tmp_path / "other", load_recipe("default", [*SMALL, "training.seed=5"]), store_root=store)
    with pytest.raises(RunError, match=r"have other clips or splits.*with the same data\.seed"):
        make_ensemble([members[0], other.root], tmp_path / "e", store_root=store)


def test_what_is_no_list_of_runs_is_refused(members, seeds, tmp_path, store) -> None:
    for roots, out, reason in (
        (members[:1], "e", "at least two runs"),
        ([members[0], members[0]], "e", "hold the same classifier; give each run once"),
        ([members[0], seeds.root], "e", "is an ensemble itself; give the runs that it was made of"),
        (members, members[0], "is one of the members"),
        (members, "thesis", "in the way: it is no run folder"),
    ):
        (tmp_path / "thesis").mkdir(exist_ok=True)
        (tmp_path / "thesis" / "thesis.txt").touch()
        with pytest.raises(RunError, match=reason):
            make_ensemble(roots, tmp_path / out, store_root=store)
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "thesis.txt"]


def test_clips_that_have_gone_are_looked_for_only_where_the_store_lacks_them(members, tmp_path, store) -> None:
    nowhere = tmp_path / "nowhere"
    assert make_ensemble(members, tmp_path / "e", store_root=store, data=nowhere).info.members
    with pytest.raises(ExportError, match=r"the clip .* is missing; say where the clips of the run are: --data DIR"):
        make_ensemble(members, tmp_path / "f", store_root=tmp_path / "empty", data=nowhere)
    assert not (tmp_path / "f").exists()


def test_an_ensemble_is_not_trained_itself(seeds: Run, clips_dir: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(RecipeError, match="the head is an ensemble, which is not trained itself"):
        load_recipe(str(seeds.root / "recipe.toml"))
    with pytest.raises(RecipeError, match="an ensemble is not trained itself"):
        recipe_of_run(seeds.root).make_head().training_step((4, 512), "float32")
    with pytest.raises(RecipeError, match="fitted exactly, so every seed gives the same classifier"):
        train_seeds(clips_dir, tmp_path / "e", load_recipe("edge"), 2, store_root=tmp_path / "store")
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["localhost:1", "localhost:2"]}}))
    with pytest.raises(RecipeError, match="--seeds trains on one machine"):
        train_seeds(clips_dir, tmp_path / "e", load_recipe("default"), 2, store_root=tmp_path / "store")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ({}, r"head\.members: Field required"),
        ({"members": [{"name": "gru"}]}, r"head\.members: Tuple should have at least 2 items"),
        ({"members": [{"name": "gru"}, {"name": "gur"}]}, r"no head 'gur', did you mean 'gru'\?"),
        ({"members": [{"name": "gru"}, {"name": "ensemble", "members": [{"name": "gru"}] * 2}]}, "an ensemble itself"),
        ({"members": [{"name": "gru"}] * 2, "inputs": [(0, 4, 8)]}, "1 inputs for 2 members"),
    ],
)
def test_wrong_settings(head: dict[str, Any], reason: str) -> None:
    from vdeploy.models.registry import head_of

    with pytest.raises(UserError, match=reason):
        head_of({"name": "ensemble", **head})


KILL = """
import os, signal, sys
from training.methods import ensembling
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
name = sys.argv.pop(1)
if name: setattr(ensembling, name, kill)
from vdeploy.cli.app import main
main()
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", ["write_run_folder", "publish_run"])
def test_a_kill_leaves_the_older_run_and_the_same_command_makes_the_new_one(members, tmp_path, store, moment) -> None:
    def ensemble(*arguments: object, killed: str = "") -> int:
        command = [sys.executable, "-c", KILL, killed, "ensemble", *map(str, arguments)]
        return subprocess.run([*command, "--store", str(store)], check=False, capture_output=True).returncode

    out = tmp_path / "e"
    assert ensemble(*members[:2], "--out", out) == 0
    assert ensemble(*members, "--out", out, killed=moment) == -9
    assert len(Run.load(out).info.members) == 2
    assert ensemble(*members, "--out", out) == 0
    assert len(Run.load(out).info.members) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "e.previous"]


@pytest.mark.triton
@pytest.mark.timeout(900)
def test_every_format_and_a_triton_serve_the_mean_as_one_model(
    members: list[Path], clips_dir: Path, store: Path, tmp_path: Path, install: TritonInstall
) -> None:
    run = make_ensemble(members, tmp_path / "e", store_root=store)
    clips = np.stack([read_clip(path, run.spec).frames for path in sorted(clips_dir.rglob("*.mp4"))[:3]])
    expected = mean_of(members, run.extractor().extract(clips))
    _, repository = check_every_format(run, clips, expected, tmp_path, store=store, install=install)
    assert repository.models == ("vgg19_features", "ensemble_classifier", "violence_detector")


@pytest.mark.parametrize("count", [2, 3])
def test_a_lowered_ensemble_is_the_mean_of_its_members(members, tmp_path, store, count) -> None:
    """Members of one kind, and of two; of the latter, OpenVINO reads what an LSTM operator would make it mistake."""
    from vdeploy.export.lowering.choose import head_graph, head_onnx
    from vdeploy.export.lowering.ensemble import EnsembleGraph

    onnx, onnxruntime, openvino = map(pytest.importorskip, ("onnx", "onnxruntime", "openvino"))
    model = make_ensemble(members[:count], tmp_path / "e", store_root=store).classifier()
    graph, lowered, file = head_graph(model), head_onnx(model), tmp_path / "model.onnx"
    onnx.save(lowered, file)
    assert isinstance(graph, EnsembleGraph)
    assert ("LSTM" in {node.op_type for node in lowered.graph.node}) == (count == 2)
    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    session = onnxruntime.InferenceSession(str(file))
    for found in (graph(FEATURES).numpy(), session.run(None, {"features": FEATURES})[0], compiled(FEATURES)[0]):
        np.testing.assert_allclose(found, mean_of(members[:count]), rtol=0, atol=1e-6)


def test_a_tflite_file_is_the_mean_of_its_members(members: list[Path], tmp_path: Path, store: Path) -> None:
    from vdeploy.export.tflite import Metadata, classifier_to_tflite
    from vdeploy.inference.runtimes.litert import LiteRtRuntime

    run = make_ensemble(members, tmp_path / "e", store_root=store)
    metadata = Metadata(("non-violent", "violent"), run.spec)
    classifier_to_tflite(run.classifier(), tmp_path / "model.tflite", metadata)
    found = LiteRtRuntime(tmp_path / "model.tflite").infer({"features": FEATURES})["probabilities"]
    np.testing.assert_allclose(found, mean_of(members), rtol=0, atol=1e-6)
