"""Footage is cut to windows as mining cuts it, and each video goes through the backbone once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from killed_training import kill_when_written

from testing.videos import solid_frame, write_numbered, write_video
from training.methods.self_supervised import footage as footage_module
from training.methods.self_supervised.footage import Footage, extract_footage
from training.methods.self_supervised.pretraining import pretrain
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import ClipError, DatasetError, RecipeError, RunError
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.timeline.windows import WindowPlan

PLAN = WindowPlan.of(4, 1.0)
TINY = (
    *("clip.size=32", "clip.frames=4", "backbone.weights=random", "head.units=4", "head.dense=4"),
    *("pretrain.epochs=3", "pretrain.batch=8", "pretrain.expander=8", "training.precision=float32"),
)


def recipe(*overrides: str) -> Recipe:
    return load_recipe("default", [*TINY, *overrides])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds in two colours, a copy of them, half a second, and a file that is no video."""
    folder = tmp_path_factory.mktemp("footage")
    colours = ((250, 10, 10), (10, 250, 10))
    write_video(folder / "long.mp4", [solid_frame(colour) for colour in colours for _ in range(75)])
    shutil.copy(folder / "long.mp4", folder / "same.mp4")
    write_numbered(folder / "short.mp4", 12)
    (folder / "text.mp4").write_text("no video\n" * 40)
    return folder


def extract(videos: Path, store: Path, *, plan: WindowPlan = PLAN) -> Footage:
    chosen = recipe()
    return extract_footage(sorted(videos.iterdir()), chosen, chosen.make_backbone().find_weights(), store, plan)


@pytest.mark.slow
def test_windows_are_those_of_mining_and_are_extracted_once(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = extract(videos, tmp_path)
    assert [(Path(video.path).name, video.windows) for video in found.videos] == [("long.mp4", 11), ("short.mp4", 1)]
    assert list(found.failed) == [str(videos / "text.mp4")]
    features = found.features[:]
    assert features.shape == (12, 4, 512)
    chosen = recipe()
    extractor = FeatureExtractor(chosen.make_backbone(), chosen.make_backbone().find_weights(), chosen.clip_spec)
    red = extractor.extract(np.full((1, 4, 32, 32, 3), (250, 10, 10), np.uint8))[0, 0]
    green = extractor.extract(np.full((1, 4, 32, 32, 3), (10, 250, 10), np.uint8))[0, 0]
    # Three seconds are red: five windows of a second from half second to half second, then one in both colours.
    nearer_to_red = np.abs(features[:11] - red).sum(axis=-1) < np.abs(features[:11] - green).sum(axis=-1)
    np.testing.assert_array_equal(nearer_to_red.sum(axis=1), [4, 4, 4, 4, 4, 2, 0, 0, 0, 0, 0])

    monkeypatch.setattr(footage_module, "FeatureExtractor", None)
    again = extract_readable(videos, tmp_path)
    np.testing.assert_array_equal(again.features[:], features)


def extract_readable(videos: Path, store: Path) -> Footage:
    chosen = recipe()
    paths = [videos / "long.mp4", videos / "short.mp4"]
    return extract_footage(paths, chosen, chosen.make_backbone().find_weights(), store, PLAN)


@pytest.mark.slow
def test_a_video_that_was_not_finished_is_extracted_again_to_the_same_features(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract_readable(videos, tmp_path / "whole").features[:]
    monkeypatch.setattr(footage_module, "is_full", lambda shard: len(shard) == 3)
    features = footage_module._features

    def stop(path: Path, *rest: object) -> object:
        for number, window in enumerate(features(path, *rest)):  # type: ignore[arg-type]
            if number == 8:
                raise ClipError(path, "was taken away")
            yield window

    with monkeypatch.context() as patch:
        patch.setattr(footage_module, "_features", stop)
        stopped = extract_readable(videos, tmp_path / "part")
    assert [Path(video.path).name for video in stopped.videos] == ["short.mp4"]
    assert len(list((tmp_path / "part").rglob("*.npy"))) == 3
    np.testing.assert_array_equal(extract_readable(videos, tmp_path / "part").features[:], whole)


@pytest.mark.slow
def test_other_windows_are_other_features(videos: Path, tmp_path: Path) -> None:
    extract_readable(videos, tmp_path)
    assert len(extract(videos, tmp_path, plan=WindowPlan.of(4, 2.0)).features) == 6
    assert len(list(tmp_path.iterdir())) == 2


def test_footage_without_a_video_is_one_clear_line(videos: Path, tmp_path: Path) -> None:
    chosen = recipe()
    paths = [videos / "text.mp4", videos / "absent.mp4"]
    with pytest.raises(DatasetError, match="none of the 2 videos can be read"):
        extract_footage(paths, chosen, chosen.make_backbone().find_weights(), tmp_path, PLAN)


def pretrained(folder: Path, *overrides: str) -> dict[str, object]:
    """Also run by `killed_training`; the videos lie beside the folder."""
    videos = sorted((folder.parent / "videos").iterdir())
    pretrain(videos, folder / "trunk", recipe(*overrides), store_root=folder / "store", window_s=1.0)
    manifest: dict[str, object] = json.loads((folder / "trunk" / "pretraining.json").read_text())
    return manifest


@pytest.mark.slow
def test_the_folder_says_what_was_learned_from(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(videos)
    first = pretrained(tmp_path / "run")
    assert [Path(str(video["path"])).name for video in first["footage"]] == ["long.mp4", "short.mp4"]  # type: ignore[attr-defined]
    assert [video["windows"] for video in first["footage"]] == [11, 1]  # type: ignore[attr-defined]
    assert len(first["loss"]) == 3  # type: ignore[arg-type]
    assert first["seed"] == 0
    again = pretrained(tmp_path / "run")
    assert (again["sha256"], again["loss"]) == (first["sha256"], first["loss"])
    assert pretrained(tmp_path / "run", "training.seed=1")["sha256"] != first["sha256"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["store", "trunk", "trunk.previous"]


def test_what_cannot_be_pretrained_is_one_clear_line(videos: Path, tmp_path: Path) -> None:
    paths = [videos / "short.mp4"]
    with pytest.raises(RecipeError, match="a pooling head without a dense layer has no trunk"):
        pretrain(paths, tmp_path / "out", load_recipe("edge"), store_root=tmp_path / "store")
    with pytest.raises(RecipeError, match="begins with random weights"):
        pretrain(paths, tmp_path / "out", recipe("pretrain.trunk=a"), store_root=tmp_path / "store")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(RunError, match="is in the way: it is no folder of vdeploy pretrain"):
        pretrain(paths, tmp_path / "mine", recipe(), store_root=tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_pretraining_killed_at_any_stage_ends_bit_identical(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(videos)
    longer = "pretrain.epochs=200"
    whole = pretrained(tmp_path / "whole", longer)
    for awaited in ("store/*/*.npy", "trunk.partial/checkpoints/epoch-*2.npz", "trunk.partial/checkpoints/*[3-9]?.npz"):
        kill_when_written(awaited, "test_footage", tmp_path / "killed", longer, function="pretrained")
    assert not (tmp_path / "killed" / "trunk").exists()
    killed = pretrained(tmp_path / "killed", longer)
    assert (killed["sha256"], killed["loss"]) == (whole["sha256"], whole["loss"])
    assert (tmp_path / "killed" / "trunk" / "trunk.npz").read_bytes() == (
        tmp_path / "whole" / "trunk" / "trunk.npz"
    ).read_bytes()
