"""Two processes never write one folder, and what a process still works on is never removed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vdeploy.core.errors import LockedError
from vdeploy.core.files import remove_stale, staging_folder
from vdeploy.core.locks import folder_lock

HOLD = """
import sys, time
from pathlib import Path
from vdeploy.core.files import staging_folder
from vdeploy.core.locks import folder_lock
with folder_lock(Path(sys.argv[1])), staging_folder(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@contextmanager
def a_process_that_writes(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_the_second_is_refused_in_a_line_that_names_the_first(tmp_path: Path) -> None:
    with (
        a_process_that_writes(tmp_path / "run") as (process, _),
        pytest.raises(LockedError) as caught,
        folder_lock(tmp_path / "run", "choose another --out"),
    ):
        pass
    told = (
        rf"{re.escape(str(tmp_path))}/run is being written by process {process.pid} on \S+; wait .*, or choose .*--out"
    )
    assert re.fullmatch(told, str(caught.value))


def test_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    with folder_lock(tmp_path / "link" / "run"), pytest.raises(LockedError), folder_lock(Path("run")):
        pass


def test_other_folders_are_free_and_nothing_is_left(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "one"), folder_lock(tmp_path / "two"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with a_process_that_writes(tmp_path / "run") as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / ".run.lock").read_text().startswith(f"process {process.pid} ")
    with folder_lock(tmp_path / "run"):
        pass


def test_the_process_in_a_lock_file_means_nothing(tmp_path: Path) -> None:
    """Its id may have been given to another process since, such as this one."""
    (tmp_path / ".run.lock").write_text(f"process {os.getpid()} on here\n")
    with folder_lock(tmp_path / "run"):
        pass


def test_what_a_process_of_another_container_works_on_stays(tmp_path: Path) -> None:
    """There, its id is one that no process has here."""
    with a_process_that_writes(tmp_path / "run") as (process, staged):
        elsewhere = staged.with_name(staged.name.replace(f".{process.pid}@", ".4194305@"))
        assert elsewhere != staged
        staged.rename(elsewhere)
        remove_stale(tmp_path)
        assert elsewhere.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
        remove_stale(tmp_path)
        assert not elsewhere.exists()


def test_what_a_dead_process_left_goes_though_its_id_was_given_again(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "run") as mine:
        stale = mine.with_name(f"{mine.name.removesuffix('.tmp')}x.tmp")
        stale.mkdir()
        remove_stale(tmp_path)
        assert mine.is_dir()
        assert not stale.exists()
