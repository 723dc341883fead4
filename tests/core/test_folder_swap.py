"""On a file system that cannot swap two names, a kill leaves the older or the newer folder."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testing.forbidden_calls import without_call
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core import files
from vdeploy.core.files import publish_folder, staging_folder
from vdeploy.core.folder_swap import swap_folders
from vdeploy.core.locks import folder_lock, settle_folder

PUBLISH = """
import os, signal, sys
from pathlib import Path
from vdeploy.core.files import publish_folder
from vdeploy.core.locks import folder_lock
left, rename = int(sys.argv[2]), Path.rename
def renamed(path, target):
    global left
    rename(path, target)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = renamed
final = Path(sys.argv[1])
with folder_lock(final):
    keep_as = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    publish_folder(final.with_name("staged"), final, keep_as=keep_as)
"""


def publish(final: Path, kills_after: int, error: int = errno.EINVAL, *arguments: object) -> int:
    """Replaces a folder in a process that is killed after so many renames, and cannot swap."""
    command = without_call("renameat2", error, [sys.executable, "-c", PUBLISH, final, kills_after, *arguments])
    return subprocess.run(command, check=False).returncode


def two_folders(root: Path) -> Path:
    for name in ("final", "staged"):
        (root / name).mkdir()
        (root / name / "content").write_text({"final": "older", "staged": "newer"}[name])
    return root / "final"


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_three_renames_do_where_names_cannot_be_swapped(tmp_path: Path, error: int) -> None:
    final = two_folders(tmp_path)
    assert publish(final, -1, error) == 0
    assert (final / "content").read_text() == "newer"
    assert list(tmp_path.iterdir()) == [final]


def test_what_is_replaced_is_kept_where_asked(tmp_path: Path) -> None:
    final = two_folders(tmp_path)
    assert publish(final, -1, errno.EINVAL, tmp_path / "previous") == 0
    assert (final / "content").read_text() == "newer"
    assert (tmp_path / "previous" / "content").read_text() == "older"


@pytest.mark.parametrize(("kills_after", "found"), [(1, "older"), (2, "newer"), (3, "newer")])
def test_a_reader_finds_the_older_or_the_newer(tmp_path: Path, kills_after: int, found: str) -> None:
    final = two_folders(tmp_path)
    assert publish(final, kills_after) == -signal.SIGKILL
    settle_folder(final)
    assert (final / "content").read_text() == found


@pytest.mark.parametrize("kills_after", [1, 2, 3])
def test_the_next_process_that_writes_finds_it_and_removes_the_rest(tmp_path: Path, kills_after: int) -> None:
    final = two_folders(tmp_path)
    assert publish(final, kills_after) == -signal.SIGKILL
    with folder_lock(final):
        assert final.is_dir()
        assert {path.name for path in tmp_path.iterdir()} <= {"final", "staged", ".final.lock"}
        with staging_folder(final) as staged:
            (staged / "content").write_text("third")
            publish_folder(staged, final)
    assert (final / "content").read_text() == "third"


def test_a_bundle_is_opened_after_a_kill(tmp_path: Path) -> None:
    final = make_tiny_bundle(tmp_path / "final").root
    shutil.copytree(final, tmp_path / "staged")
    assert publish(final, 1) == -signal.SIGKILL
    assert not final.exists()
    assert Bundle(final).manifest.artifacts


def test_a_reader_waits_for_a_process_that_swaps(tmp_path: Path) -> None:
    final = two_folders(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from vdeploy.core.locks import folder_lock\n"
        "final = Path(sys.argv[1])\n"
        "with folder_lock(final):\n"
        "    final.rename(final.with_name('.final.swapped'))\n"
        "    print('swaps', flush=True)\n"
        "    time.sleep(0.5)\n"
        "    final.with_name('staged').rename(final)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, final], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "swaps\n"
        settle_folder(final)
        assert (final / "content").read_text() == "newer"
        process.communicate()


def test_a_swap_that_fails_changes_nothing(tmp_path: Path) -> None:
    final = two_folders(tmp_path)
    with pytest.raises(FileNotFoundError):
        swap_folders(tmp_path / "missing", final)
    assert (final / "content").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final", "staged"]


def test_all_of_a_folder_is_on_the_disk_before_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", noted)
    final = two_folders(tmp_path)
    (tmp_path / "staged" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "staged" / "deep" / "deeper" / "file").write_text("x")
    publish_folder(tmp_path / "staged", final)
    assert sorted(synced[:-1]) == ["content", "deep", "deeper", "file", "staged"]
    assert synced[-1] == tmp_path.name
