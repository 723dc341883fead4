"""Every backbone beside VGG19 through the verbs, with random weights and small clips: train, export, predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testing.videos import write_numbered
from training.pipeline import train
from training.recipe import load_recipe
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RecipeError
from vdeploy.detector import detect
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats
from vdeploy.inference.in_process import LocalScorer
from vdeploy.video.clips import Clip
from vdeploy.video.workers.clips import decode_clips

SMALL = ("training.epochs=2", "training.batch=8", "backbone.weights=random", "clip.size=32")
MODELS = {
    "i3d": ("i3d", (*SMALL, "clip.frames=16")),
    "i3d in motion": ("accurate", (*SMALL, "clip.frames=16")),
    "efficientnet-lite0": ("edge", (*SMALL, "clip.frames=4", "head.name=gru", "head.units=8")),
}


@pytest.fixture(scope="module", params=MODELS)
def bundle(request, clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle in several formats, and the run that it is of."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    name, overrides = MODELS[request.param]
    run = train(clips_dir, folder / "run", load_recipe(name, overrides), store_root=folder / "store")
    formats = parse_formats("onnx-fp32,onnx-int8,openvino-fp32,openvino-int8,savedmodel")
    result = export_run(run, formats, folder / "bundle", options=ExportOptions(store_root=folder / "store"))
    return result.bundle, clips_dir


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_format_computes_what_was_trained(bundle):
    exported, clips = bundle
    assert set(exported.manifest.formats) == {"onnx-fp32", "onnx-int8", "openvino-fp32", "openvino-int8", "savedmodel"}
    paths = sorted(clips.rglob("*.mp4"))[:3]
    spec = exported.manifest.clip_spec
    frames = np.stack([clip.frames for _, clip in decode_clips(paths, spec) if isinstance(clip, Clip)])
    scores = {name: LocalScorer(exported, name).score(frames)[:, 1] for name in exported.manifest.formats}
    for name in ("openvino-fp32", "savedmodel"):
        np.testing.assert_allclose(scores[name], scores["onnx-fp32"], atol=1e-3)
    for name in ("onnx-int8", "openvino-int8"):
        np.testing.assert_allclose(scores[name], scores["onnx-fp32"], atol=0.1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_timeline_has_the_scores_of_its_windows(bundle, tmp_path):
    exported, _ = bundle
    scorer = LocalScorer(exported, "onnx-fp32")
    video = write_numbered(tmp_path / "long.mp4", 100)
    timeline = detect(video, scorer, window_s=2.0, stride_s=1.0)
    assert len(timeline.windows) == 3
    (whole,) = detect(video, scorer, window_s=4.0, stride_s=4.0).windows
    clip = next(clip for _, clip in decode_clips([video], scorer.spec))
    assert isinstance(clip, Clip)
    assert whole.probability == pytest.approx(float(scorer.score(clip.frames[None])[0, 1]), abs=1e-5)


def test_frames_that_a_backbone_cannot_take_are_refused_before_anything_is_written(clips_dir, tmp_path):
    recipe = load_recipe("i3d", (*SMALL, "clip.frames=20"))
    with pytest.raises(RecipeError, match=r"I3D takes a multiple of 8 frames, not 20; set clip.frames to 16, 32 or 64"):
        train(clips_dir, tmp_path / "run", recipe, store_root=tmp_path / "store")
    assert not list(tmp_path.rglob("*"))
