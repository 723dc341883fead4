"""A run of `accurate` is pruned like one on VGG19: on I3D, on the square in which things move, with mirror images."""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from killed_training import kill_when_written

from training.methods.pruning import prune_run as module
from training.methods.pruning.prune_run import prune_run, prune_weights
from training.pipeline import train
from training.recipe import load_recipe, recipe_of_run
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.run import BACKBONE, Run
from vdeploy.export.exporter import export_run
from vdeploy.export.onnx.external_weights import open_onnx
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats
from vdeploy.inference.in_process import LocalScorer
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of
from vdeploy.video.clips import Clip
from vdeploy.video.workers.clips import decode_clips

KEEP = 0.5
SMALL = ("backbone.weights=random", "clip.size=32", "clip.frames=16")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("i3d")


@pytest.fixture(scope="module")
def run(clips_dir: Path, folder: Path) -> Run:
    """A run of `accurate` with random weights and small clips; read only."""
    return train(clips_dir, folder / "run", load_recipe("accurate", SMALL), store_root=folder / "store")


@pytest.fixture(scope="module")
def pruned(run: Run, folder: Path) -> Run:
    """The run at half of its operations; read only."""
    return prune(folder)


def prune(folder: Path, name: str = "pruned") -> Run:
    return prune_run(folder / "run", folder / name, keep=KEEP, store_root=folder / "store")


@pytest.fixture(scope="module")
def whole(run: Run, folder: Path) -> Bundle:
    return exported(run, "onnx-fp32", folder)


@pytest.fixture(scope="module")
def half(pruned: Run, folder: Path) -> Bundle:
    return exported(pruned, "onnx-fp32,onnx-fp16,openvino-fp32,savedmodel", folder)


def exported(run: Run, formats: str, folder: Path) -> Bundle:
    options = ExportOptions(store_root=folder / "store")
    return export_run(run, parse_formats(formats), folder / f"{run.root.name}-bundle", options=options).bundle


def test_the_operations_and_the_channels_are_gone_from_the_onnx_file(whole: Bundle, half: Bundle, pruned: Run) -> None:
    before, after = (bundle.manifest.extractor.flops or 0 for bundle in (whole, half))
    assert 0.48 * before < after <= KEEP * before
    assert half.artifact("extractor", "onnx-fp32").bytes < 0.9 * whole.artifact("extractor", "onnx-fp32").bytes
    settings = pruned.backbone.settings
    graph = open_onnx(half.path(half.artifact("extractor", "onnx-fp32"))).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    outputs = [shapes[node.input[1]][0] for node in graph.node if node.op_type == "Conv"]
    assert collections.Counter(outputs) == collections.Counter(settings.channels)
    assert sum(settings.channels) < sum(settings.convolutions.values())


def test_every_format_computes_the_same(half: Bundle, clips_dir: Path) -> None:
    assert set(half.manifest.formats) == {"onnx-fp32", "onnx-fp16", "openvino-fp32", "savedmodel"}
    paths = sorted(clips_dir.rglob("*.mp4"))[:3]
    frames = np.stack(
        [clip.frames for _, clip in decode_clips(paths, half.manifest.clip_spec) if isinstance(clip, Clip)]
    )
    scores = {name: LocalScorer(half, name).score(frames)[:, 1] for name in half.manifest.formats}
    for name in half.manifest.formats:
        np.testing.assert_allclose(scores[name], scores["savedmodel"], atol=2e-2 if name == "onnx-fp16" else 1e-3)


def test_the_features_are_near_to_those_of_the_whole_network(run: Run, pruned: Run, clips_dir: Path) -> None:
    paths = sorted(clips_dir.rglob("*.mp4"))[:4]
    frames = np.stack([clip.frames for _, clip in decode_clips(paths, run.spec) if isinstance(clip, Clip)])
    whole, found = (each.extractor().extract(frames) for each in (run, pruned))
    assert np.corrcoef(whole.ravel(), found.ravel())[0, 1] > 0.95


def test_it_is_an_ordinary_run_on_the_same_region_and_views(run: Run, pruned: Run) -> None:
    stage, recipe = pruned.info.stage("extractor"), recipe_of_run(pruned.root)
    assert (stage.architecture, stage.file, stage.settings["region"]) == ("i3d", BACKBONE, "motion")
    assert len(stage.settings["channels"]) == 57
    assert recipe.clip == recipe_of_run(run.root).clip
    assert recipe.clip.mirrored
    assert (pruned.root / "clips.csv").read_bytes() == (run.root / "clips.csv").read_bytes()


def test_a_killed_pruning_goes_on_and_ends_bit_identical(pruned: Run, folder: Path) -> None:
    kill_when_written("killed.pruning/Mixed_3c.Branch_2*.npz", "test_pruning_i3d", folder, "killed", function="prune")
    known = {file.name: file.stat().st_mtime_ns for file in (folder / "killed.pruning").glob("*.npz")}
    weights, channels = prune_weights(Run.load(folder / "run"), KEEP, folder / "killed.pruning")
    assert channels == pruned.backbone.settings.channels
    assert weights.path
    assert weights.path.read_bytes() == (pruned.root / BACKBONE).read_bytes()
    assert {name: (folder / "killed.pruning" / name).stat().st_mtime_ns for name in known} == known


def test_everything_kept_is_the_identity(run: Run, tmp_path: Path) -> None:
    weights, channels = prune_weights(run, 1.0, tmp_path / "work")
    backbone = backbone_of({"name": "i3d", "weights": "random", "channels": channels, "region": "motion"})
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 32, 32, 3)).astype(np.uint8)
    same = FeatureExtractor(backbone, weights, run.spec)
    np.testing.assert_array_equal(same.extract(frames), run.extractor().extract(frames))


@pytest.mark.parametrize("region", ["full", "motion", "both"])
@pytest.mark.parametrize("name", ["i3d", "vgg19"])
def test_it_learns_from_what_the_network_sees(
    run: Run, name: str, region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(run.root, tmp_path / "run")
    values = json.loads((root / "run.json").read_text())
    values["stages"][0] |= {"architecture": name, "settings": {"weights": "random", "region": region}}
    (root / "run.json").write_text(json.dumps(values))
    found = module._frames(Run.load(root), None, 0)
    train_clips = [clip for clip in run.root.joinpath("clips.csv").read_text().splitlines() if ",train," in clip]
    each = (1 if name == "i3d" else 2) * (2 if region == "both" else 1)
    assert len(found) == each * len(train_clips)
    assert {frames.shape for frames in found} == {((16,) if name == "i3d" else ()) + (32, 32, 3)}
    assert all(frames.dtype == np.uint8 for frames in found)
    monkeypatch.setattr(module, "_FRAMES", 6 * 16)
    assert len(module._frames(Run.load(root), None, 0)) == (6 if name == "i3d" else len(found))


def test_a_fine_tuned_run_is_pruned_as_it_is_and_trains_its_head_alone(clips_dir: Path, folder: Path) -> None:
    options = (*SMALL, "fine_tune.blocks=1", "training.epochs=2", "training.batch=4", "clip.mirrored=false")
    tuned = train(clips_dir, folder / "tuned", load_recipe("i3d", options), store_root=folder / "store")
    found = prune_run(tuned.root, folder / "tuned-pruned", keep=1.0, store_root=folder / "store")
    assert tuned.info.stage("extractor").fine_tuned_blocks == ("Mixed_5c",)
    assert found.info.stage("extractor").fine_tuned_blocks == ()
    assert recipe_of_run(found.root).fine_tune.blocks == 0
    with np.load(tuned.root / BACKBONE) as before, np.load(found.root / BACKBONE) as after:
        assert before["Mixed_5c.Branch_0.Conv3d_0a_1x1/1"].any()
        assert all(np.array_equal(before[name], after[name]) for name in before.files)
