"""Label efficiency is measured over the same sources as every cross-validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.label_efficiency import _clips
from tests.conftest import TINY
from training.recipe import load_recipe


@pytest.mark.slow
def test_clips_without_a_group_are_sources_of_their_own(clips_dir: Path, tmp_path: Path) -> None:
    paths = sorted(clips_dir.glob("*/*.*"))[::4]
    lines = [f"{path},{path.parent.name},{'door' if number < 2 else ''}" for number, path in enumerate(paths)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,group", *lines, ""]))
    recipe = load_recipe("default", TINY)
    clips, _ = _clips(tmp_path / "clips.csv", recipe, tmp_path / "store")
    assert clips.groups is not None
    assert len(set(clips.groups.tolist())) == 4
