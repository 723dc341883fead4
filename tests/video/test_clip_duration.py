"""The duration of a data set's clips."""

from __future__ import annotations

from pathlib import Path

from testing.videos import write_numbered
from vdeploy.video.clip_duration import median_seconds


def test_the_median_of_what_headers_say(tmp_path: Path) -> None:
    frames = {"a": 10, "b": 20, "c": 90}
    paths = [write_numbered(tmp_path / f"{name}.mp4", count, fps=10) for name, count in frames.items()]
    assert median_seconds(paths) == 2.0


def test_files_that_say_nothing_do_not_count(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert median_seconds([text, write_numbered(tmp_path / "a.mp4", 15, fps=10), tmp_path / "missing.mp4"]) == 1.5
    assert median_seconds([text]) is None
    assert median_seconds([]) is None


def test_a_header_with_a_wrong_frame_rate_does_not_count(tmp_path: Path) -> None:
    wrong = write_numbered(tmp_path / "wrong.mp4", 4, fps=60_000)
    assert median_seconds([wrong]) is None
    assert median_seconds([wrong, wrong, write_numbered(tmp_path / "a.mp4", 15, fps=10)]) == 1.5
