"""Finding videos and judging them, over a scorer of a few lines, on a machine that has little installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from testing.videos import drop_tail, promise_frames, solid_frame, write_numbered, write_video
from vdeploy.core.errors import UserError
from vdeploy.detector import Prediction, find_videos, predict_videos
from vdeploy.inference.scorer import Scorer
from vdeploy.video.clips import ClipSpec


class RednessScorer:
    """A `Scorer` for which the mean of the red channel is the probability of violence."""

    spec = ClipSpec(frames=4, size=32)
    classes = ("non-violent", "violent")
    threshold = 0.5

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def score(self, frames):
        assert frames.dtype == np.uint8
        self.shapes.append(frames.shape)
        red = frames[..., 0].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - red, red], axis=1).astype(np.float32)


def redness_scorer() -> Scorer:
    return RednessScorer()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A working folder with files that are named like videos, and some that are not."""
    for name in ("b.mp4", "a.AVI", "sub/c.mkv", "sub/deep/d.mov", "sub/notes.txt", "sub/e.mp4.part"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "folder.mp4").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*sources: str) -> list[str]:
    return [str(path) for path in find_videos(sources)]


def test_a_file_is_taken_whatever_its_suffix(tree):
    assert found("sub/notes.txt", "b.mp4") == ["sub/notes.txt", "b.mp4"]


def test_a_folder_is_searched_for_videos_in_order(tree):
    assert found(".") == ["a.AVI", "b.mp4", "sub/c.mkv", "sub/deep/d.mov"]
    assert found("sub") == ["sub/c.mkv", "sub/deep/d.mov"]


def test_absolute_paths_stay_absolute(tree):
    assert found(str(tree / "sub")) == [str(tree / "sub/c.mkv"), str(tree / "sub/deep/d.mov")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["b.mp4", "folder.mp4"]),
        ("sub/*.mkv", ["sub/c.mkv"]),
        ("**/*.mov", ["sub/deep/d.mov"]),
        ("[ab].*", ["a.AVI", "b.mp4"]),
    ],
)
def test_a_pattern_is_resolved(tree, pattern, expected):
    assert found(pattern) == expected


def test_a_pattern_may_be_absolute(tree):
    assert found(f"{tree}/sub/*.mkv") == [str(tree / "sub/c.mkv")]


def test_what_is_named_twice_comes_once_in_the_first_place(tree):
    assert found("sub/c.mkv", "sub", "./sub/c.mkv", "b.mp4", "*.mp4")[:3] == ["sub/c.mkv", "sub/deep/d.mov", "b.mp4"]


def test_a_file_whose_name_looks_like_a_pattern_is_taken_as_it_is(tree):
    (tree / "clip[1].mp4").touch()
    assert found("clip[1].mp4") == ["clip[1].mp4"]


@pytest.mark.parametrize("source", ["missing.mp4", "*.webm", "nowhere/"])
def test_nothing_found_is_said(tree, source):
    with pytest.raises(UserError, match="there is no file, folder or match for ") as caught:
        find_videos(["b.mp4", source])
    assert source in str(caught.value)


def test_a_folder_without_videos_is_named(tree):
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match=r"the folder empty holds no video; known suffixes: .*mp4"):
        find_videos(["empty"])


def test_files_with_unknown_suffixes_are_named(tree):
    for name in ("sub/f.vid", "sub/.hidden.xyz", "sub/readme"):
        (tree / name).touch()
    left_out = {}
    paths = find_videos(["sub", "b.mp4"], leave_out=lambda file, reason: left_out.update({str(file): reason}))
    assert [str(path) for path in paths] == ["sub/c.mkv", "sub/deep/d.mov", "b.mp4"]
    assert left_out == {
        "sub/e.mp4.part": "has the suffix .part, not one of a video",
        "sub/f.vid": "has the suffix .vid, not one of a video",
    }


@pytest.fixture
def videos(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video\n" * 40)
    return {
        "red": write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 8),
        "broken": drop_tail(write_numbered(tmp_path / "broken.mp4", 20), 0.5),
        "blue": write_video(tmp_path / "blue.mp4", [solid_frame((10, 10, 250))] * 8),
        "text": text,
        "absent": tmp_path / "absent.mp4",
        "short": promise_frames(write_video(tmp_path / "short.avi", [solid_frame((250, 10, 10))] * 8), 20),
    }


def test_every_video_is_answered_in_order(videos):
    scorer = RednessScorer()
    predictions = list(predict_videos(videos.values(), scorer))
    assert [prediction.path for prediction in predictions] == [str(path) for path in videos.values()]
    by_name = dict(zip(videos, predictions, strict=True))
    assert by_name["red"].probability == pytest.approx(250 / 255, abs=0.03)
    assert by_name["blue"].probability == pytest.approx(10 / 255, abs=0.03)
    assert (by_name["red"].violent, by_name["blue"].violent) == (True, False)
    assert by_name["red"].error is None
    assert by_name["red"].warnings == ()
    assert by_name["red"].milliseconds >= 0
    assert scorer.shapes == [(1, 4, 32, 32, 3)] * 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "is incomplete: its index (the moov box) is missing"),
        ("text", "is not a readable video"),
        ("absent", "does not exist"),
    ],
)
def test_a_file_that_cannot_be_read_is_answered_with_why(videos, name, reason):
    (prediction,) = predict_videos([videos[name]], redness_scorer())
    assert prediction == Prediction(str(videos[name]), None, None, reason, (), None)


def test_what_is_odd_about_a_video_is_passed_on(videos):
    (prediction,) = predict_videos([videos["short"]], redness_scorer())
    assert prediction.violent is True
    assert prediction.warnings == ("only 8 of the 20 frames that its header promises can be decoded",)


@pytest.mark.parametrize(("above", "violent"), [(0.0, True), (1e-6, False)])
def test_the_threshold_itself_counts_as_violent(videos, above, violent):
    scorer = RednessScorer()
    (first,) = predict_videos([videos["red"]], scorer)
    scorer.threshold = first.probability + above
    (second,) = predict_videos([videos["red"]], scorer)
    assert second.violent is violent


def test_no_video_gives_no_prediction():
    assert list(predict_videos([], redness_scorer())) == []


IMPORT = """
    import importlib.abc, sys

    class Blocker(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in sys.argv[2].split(","):
                raise ImportError(f"{name} is not on a client")

    sys.meta_path.insert(0, Blocker())
    __import__(sys.argv[1])
"""
NOT_ON_A_CLIENT = "jinja2,keras,matplotlib,onnx,onnxruntime,pydantic,rich,sklearn,tensorboard,tensorflow,tf2onnx,typer"


@pytest.mark.parametrize(
    "module",
    ["vdeploy.detector", "vdeploy.triton.client.client", "vdeploy.inference.scorer", "vdeploy.inference.open_scorer"],
)
def test_a_client_needs_little(module):
    assert importlib.util.find_spec(module)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IMPORT), module, NOT_ON_A_CLIENT],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
