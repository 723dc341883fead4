"""A place that cannot be written is refused before the work, and asking leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from vdeploy.core.errors import UserError
from vdeploy.core.write_check import refuse_unwritable


def test_what_can_be_written_passes_and_nothing_is_left(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "a" / "b" / "file.json")
    refuse_unwritable(tmp_path / "clips", folder=True)
    refuse_unwritable(tmp_path, folder=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_there_already_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "old.json").touch()
    refuse_unwritable(tmp_path / "old.json")


@pytest.mark.parametrize(
    ("name", "folder", "line"),
    [
        ("", False, "cannot be written (Is a directory); choose another place"),
        ("file", True, "cannot be written (Not a directory)"),
        ("file/a/b.json", False, "cannot be written (Not a directory)"),
    ],
)
def test_what_is_in_the_way_is_named(tmp_path: Path, name: str, folder: bool, line: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        refuse_unwritable(tmp_path / name, folder=folder)
    assert str(caught.value).startswith(f"{tmp_path / name} {line}")


def test_a_file_system_that_takes_no_files() -> None:
    with pytest.raises(UserError, match=r"/proc/t\.json cannot be written"):
        refuse_unwritable(Path("/proc/t.json"))
