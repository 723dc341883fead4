"""The corpus: inputs of every kind that people have, decoded by us and by the ffmpeg program."""

from __future__ import annotations

import collections
import json

import pytest

from testing.corpus import tools
from testing.corpus.__main__ import main
from testing.corpus.catalogue import corpus_inputs

needs_ffmpeg = pytest.mark.skipif(not tools.are_installed(), reason="ffmpeg and ffprobe are not installed")


def test_the_corpus_is_large_and_its_names_differ() -> None:
    inputs = list(corpus_inputs())
    assert len(inputs) >= 200
    assert len({one.name for one in inputs}) == len(inputs)
    kinds = collections.Counter(one.kind for one in inputs)
    assert kinds["interlaced"] >= 30
    assert kinds["display matrix"] == 16
    assert kinds["uncompressed AVI"] == 24


def test_without_ffmpeg_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tools.shutil, "which", lambda _: None)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: ffmpeg and ffprobe are not installed; run: apt-get install ffmpeg\n"


@needs_ffmpeg
def test_a_wrong_frame_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("vdeploy.video.frame_stream.deinterlace", lambda _before, frame, _after: frame)
    assert main(["--name", "mpeg4-tff.mp4"]) == 1
    assert "frames differ, the first is" in capsys.readouterr().err


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_frame_is_wrong_and_none_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--json"])
    printed = capsys.readouterr()
    total = json.loads(printed.out)["total"]
    assert (total["wrong_frames"], total["lost_frames"], total["faulty_inputs"]) == (0, 0, 0), printed.err
    assert total["inputs"] >= 200
    assert total["frames"] > 10_000
    assert code == 0
