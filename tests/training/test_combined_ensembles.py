"""Ensembles of members with different backbones: one graph, the mean of what the members say of their frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testing.toy_models import toys_registered
from testing.videos import write_numbered
from tests.conftest import TINY
from tests.training.one_model import check_every_format
from training.methods.ensembling import make_ensemble
from training.pipeline import train
from training.recipe import load_recipe, recipe_of_run
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.detector import detect
from vdeploy.evaluate import evaluate_on
from vdeploy.inference.in_process import LocalScorer
from vdeploy.triton.server.install import TritonInstall
from vdeploy.video.clips import read_clip

pytestmark = pytest.mark.slow

MEMBERS = {
    "colours": ("backbone.name=toy-colours", "head.name=pooling", "clip.frames=8", "augment.cutmix=1.0"),
    "blocks": ("backbone.name=toy-blocks", "head.name=pooling"),
    "gru": ("backbone.name=toy-blocks", "head.name=gru", "head.units=8"),
}


@pytest.fixture(scope="module", autouse=True)
def registered():
    with toys_registered():
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def members(clips_dir: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of 8 frames, of 4 frames, and of 4 frames with the same backbone; read only."""
    folder = tmp_path_factory.mktemp("runs")
    for name, overrides in MEMBERS.items():
        train(clips_dir, folder / name, load_recipe("default", [*TINY, *overrides]), store_root=store)
    return [folder / name for name in MEMBERS]


@pytest.fixture(scope="module")
def ensemble(members: list[Path], store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_ensemble(members, tmp_path_factory.mktemp("ensemble") / "e", store_root=store)


def mean_of(roots: list[Path], clips: Any) -> Any:
    """The mean of what runs say of clips of eight frames, each of the frames that it takes."""
    said = []
    for run in map(Run.load, roots):
        every = clips.shape[1] // run.spec.frames
        said.append(run.classifier()(run.extractor().extract(clips[:, every // 2 :: every])).numpy())
    return np.mean(said, axis=0)


def some_clips(clips_dir: Path, run: Run) -> Any:
    return np.stack([read_clip(path, run.spec).frames for path in sorted(clips_dir.rglob("*.mp4"))[:3]])


def test_it_is_the_mean_of_what_members_say_of_their_frames(
    ensemble: Run, members: list[Path], clips_dir: Path, store: Path
) -> None:
    clips = some_clips(clips_dir, ensemble)
    assert clips.shape == (3, 8, 32, 32, 3)
    found = ensemble.classifier()(ensemble.extractor().extract(clips)).numpy()
    np.testing.assert_allclose(found, mean_of(members, clips), rtol=0, atol=1e-5)
    assert [branch["name"] for branch in ensemble.backbone.settings.branches] == ["toy-colours", "toy-blocks"]
    assert ensemble.head.settings.inputs == ((0, 8, 8), (8, 4, 16), (8, 4, 16))
    assert (ensemble.root / "backbone.npz").is_file()
    recipe = recipe_of_run(ensemble.root)
    assert (recipe.clip.frames, recipe.clip.region, recipe.make_backbone().name) == (8, "full", "combined")
    again = evaluate_on(ensemble.root, clips_dir, split="test", positive=(), store_root=store)
    assert again.evaluation.accuracy == pytest.approx(ensemble.metrics["test"]["accuracy"])


def test_what_cannot_be_put_side_by_side_is_refused(members: list[Path], clips_dir: Path, store: Path, tmp_path: Path):
    for overrides, reason in (
        (("clip.frames=3",), r"of 8 frames, 3 cannot be taken evenly spaced; train them with clip\.frames"),
        (("clip.size=48",), r"clip\.size differs: 32 and 48"),
    ):
        other = train(
            clips_dir, tmp_path / "o", load_recipe("default", [*TINY, *MEMBERS["blocks"], *overrides]), store_root=store
        )
        with pytest.raises(RunError, match=reason) as caught:
            make_ensemble([members[0], other.root], tmp_path / "e", store_root=store)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "e").exists()


def test_a_member_with_a_temporal_shift_may_be_the_first(
    members: list[Path], clips_dir: Path, store: Path, tmp_path: Path
) -> None:
    overrides = ("backbone.name=efficientnet-lite0", "fine_tune.blocks=3", "fine_tune.temporal_shift=both")
    recipe = load_recipe("default", [*TINY, *overrides, "head.name=pooling", "training.epochs=1"])
    roots = [train(clips_dir, tmp_path / "shifted", recipe, store_root=store).root, members[0]]
    made = make_ensemble(roots, tmp_path / "e", store_root=store)
    clips = some_clips(clips_dir, made)
    found = made.classifier()(made.extractor().extract(clips)).numpy()
    np.testing.assert_allclose(found, mean_of(roots, clips), rtol=0, atol=1e-5)


def test_a_recipe_cannot_name_the_backbone(ensemble: Run, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the backbone is a combined one, which is not trained itself"):
        load_recipe(str(ensemble.root / "recipe.toml"))
    branches = "[{name = 'toy-blocks', frames = 4}, {name = 'toy-colours', frames = 8}]"
    trunk = f"{{name = 'combined', branches = {branches}}}"
    with pytest.raises(RecipeError, match=r"backbone\.trunk is a combined backbone, which vdeploy ensemble makes"):
        load_recipe("two-stream", [f"backbone.trunk={trunk}"])


@pytest.mark.triton
@pytest.mark.timeout(900)
def test_every_format_and_a_triton_serve_it_as_one_model(
    ensemble: Run, members: list[Path], clips_dir: Path, store: Path, tmp_path: Path, install: TritonInstall
) -> None:
    clips = some_clips(clips_dir, ensemble)
    expected = mean_of(members, clips)
    bundle, repository = check_every_format(ensemble, clips, expected, tmp_path, store=store, install=install)
    extractor = f"combined_{ensemble.info.weights_sha256[:8]}_features"
    assert repository.models == (extractor, "ensemble_classifier", "violence_detector")
    video = write_numbered(tmp_path / "long.mp4", 100)
    assert len(detect(video, LocalScorer(bundle, "onnx-fp32"), window_s=2.0, stride_s=1.0).windows) == 3
