"""Every backbone beside VGG19 through the verbs, with random weights and small clips: train, export, predict.

I3D looks at the square in which things move, which is a part of its graph. The causal temporal shift has a file of its
own, `test_causal_end_to_end.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testing.videos import solid_frame, write_numbered, write_video
from testing.watched_files import probabilities, watched
from tests.conftest import shared
from tests.triton.conftest import own_ports
from training.pipeline import train
from training.recipe import load_recipe
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RecipeError, RepositoryError
from vdeploy.detector import detect
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats
from vdeploy.inference.in_process import LocalScorer
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.server import TritonServer
from vdeploy.video.clips import Clip
from vdeploy.video.workers.clips import decode_clips

SMALL = ("training.epochs=2", "training.batch=8", "backbone.weights=random", "clip.size=32")
MODELS = {
    "i3d in motion": ("accurate", (*SMALL, "clip.frames=16")),
    "efficientnet-lite0": ("edge", (*SMALL, "clip.frames=4", "head.name=gru", "head.units=8")),
    "temporal shift": (
        "edge",
        (
            *SMALL,
            "clip.frames=4",
            "head.name=gru",
            "head.units=8",
            "fine_tune.blocks=3",
            "fine_tune.temporal_shift=both",
        ),
    ),
    "two-stream": ("two-stream", (*SMALL, "clip.frames=4")),
}

FORMATS = ("onnx-fp32", "onnx-int8", "openvino-fp32", "openvino-int8", "savedmodel")


@pytest.fixture(scope="module", params=MODELS)
def bundle(request, clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle in several formats, and the clips that its run learned from."""
    name, overrides = MODELS[request.param]

    def make(folder: Path) -> None:
        run = train(clips_dir, folder / "run", load_recipe(name, overrides), store_root=folder / "store")
        options = ExportOptions(store_root=folder / "store")
        export_run(run, parse_formats(",".join(FORMATS)), folder / "bundle", options=options)

    return Bundle(shared(tmp_path_factory, f"bundle of {request.param}", make) / "bundle"), clips_dir


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_format_computes_what_was_trained(bundle):
    exported, clips = bundle
    assert set(exported.manifest.formats) == set(FORMATS)
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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_watched_file_has_the_scores_of_its_timeline(bundle, tmp_path):
    exported, _ = bundle
    sampled = exported.manifest.clip_spec.frames
    # A picture for each sampled frame, so that it does not matter when exactly a frame of a live source arrives.
    pictures = [solid_frame((160 * number % 256, 90 * number % 256, 40)) for number in range(sampled * 3 // 2)]
    video = write_video(tmp_path / "pictures.mp4", [frame for frame in pictures for _ in range(12)], fps=24)
    lengths = {"window_s": sampled / 2, "stride_s": sampled / 4}
    expected = detect(video, LocalScorer(exported, "onnx-fp32"), **lengths).windows
    found = watched(video, exported.root, expected, **lengths)
    assert [window.start_s for window in found] == [window.start_s for window in expected]
    known = probabilities(expected)
    assert len(known) > 1
    assert np.abs(np.diff(known)).min() > 5e-5
    np.testing.assert_allclose(probabilities(found), known, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_streams_are_refused_where_frames_depend_on_each_other(request, bundle, tmp_path):
    exported, keeping = bundle[0], ServingOptions(streams=StreamOptions(2))
    name = request.node.callspec.params["bundle"]
    assert (exported.manifest.extractor.granularity == "frame") is (name == "efficientnet-lite0")
    if name != "efficientnet-lite0":
        with pytest.raises(RepositoryError, match="looks at the frames of a clip together"):
            write_repository(exported, tmp_path, options=keeping)
        assert not list(tmp_path.iterdir())
    else:
        write_repository(exported, tmp_path, options=keeping)


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32"])
def test_triton_computes_what_was_trained(bundle, install, name, tmp_path):
    exported, clips = bundle
    paths = sorted(clips.rglob("*.mp4"))[:3]
    frames = np.stack([clip.frames for _, clip in decode_clips(paths, exported.manifest.clip_spec)])
    root = tmp_path / "repository"
    repository = write_repository(exported, root, backend="auto", install=install, extractor=name, classifier=name)
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **own_ports().as_arguments()) as server,
        TritonScorer(server.url) as scorer,
    ):
        np.testing.assert_allclose(scorer.score(frames), LocalScorer(exported, name).score(frames), atol=1e-4)


def test_frames_that_a_backbone_cannot_take_are_refused_before_anything_is_written(clips_dir, tmp_path):
    recipe = load_recipe("i3d", (*SMALL, "clip.frames=20"))
    with pytest.raises(RecipeError, match=r"I3D takes a multiple of 8 frames, not 20; set clip.frames to 16, 32 or 64"):
        train(clips_dir, tmp_path / "run", recipe, store_root=tmp_path / "store")
    assert not list(tmp_path.rglob("*"))
