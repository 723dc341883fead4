"""What `triton_repo/` shows is what the generator writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.example_repository import example_files, main

COMMITTED = Path(__file__).parents[2] / "triton_repo"


@pytest.mark.parametrize("path", sorted(example_files()))
def test_the_committed_configuration_is_the_generators(path: str) -> None:
    assert (COMMITTED / path).read_text(encoding="utf-8") == example_files()[path], "run: make triton-repo"


def test_it_can_be_renewed(tmp_path: Path) -> None:
    main(tmp_path)
    written = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert written == set(example_files())
