"""What headers say, read by a worker process."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.videos import write_numbered
from vdeploy.core.errors import ClipError
from vdeploy.video.file_facts import read_facts


def test_the_facts_of_a_file(tmp_path: Path):
    video = write_numbered(tmp_path / "clip.mp4", 50, width=96, height=64, fps=10)
    facts = read_facts(video)
    assert (facts.width, facts.height, facts.fps) == (96, 64, 10.0)
    assert facts.seconds == pytest.approx(5.0, abs=0.1)
    assert facts.bit_rate == pytest.approx(8 * video.stat().st_size / facts.seconds)


def test_no_video(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("dear diary\n" * 50)
    with pytest.raises(ClipError):
        read_facts(tmp_path / "text.mp4")
