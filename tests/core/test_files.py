"""Files and folders appear whole, and what killed processes left goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vdeploy.core import files
from vdeploy.core.files import (
    atomic_write,
    publish_folder,
    remove_stale,
    sha256_of,
    staging_folder,
    write_json,
    write_text,
)
from vdeploy.core.locks import abandoned


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    write_text(file, "old")
    with pytest.raises(TypeError), atomic_write(file) as handle:
        handle.writelines([b"half", None])
    assert file.read_text() == "old"
    write_text(file, "new")
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_device_or_pipe_is_written_to_and_not_replaced(tmp_path: Path, through_a_link: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(tmp_path / ("link" if through_a_link else "pipe"), "new")
    reader.join(10)
    assert read == ["new"]
    assert pipe.is_fifo()
    assert (tmp_path / "link").is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "pipe"]


def test_json_is_readable_and_without_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Schlägerei", "value": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"name": "Schlägerei", "value": 1.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text())["value"] == 1.5


def test_a_hash_of_known_content(tmp_path: Path) -> None:
    write_text(tmp_path / "abc", "abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_staged_folder_goes_unless_it_is_published(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "final") as staged:
        (staged / "content").write_text("x")
    assert not list(tmp_path.iterdir())
    with staging_folder(tmp_path / "final") as staged:
        (staged / "content").write_text("x")
        publish_folder(staged, tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_folders_are_exchanged_and_the_older_one_is_kept_where_asked(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    publish_folder(tmp_path / "new", tmp_path / "old", keep_as=tmp_path / "kept")
    assert (tmp_path / "old" / "content").read_text() == "new"
    assert (tmp_path / "kept" / "content").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "old"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_removed_between_its_creation_and_its_lock_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Another process may take a new temporary file, which is not locked yet, for one of a process that was killed."""
    create, removers = getattr(files, f"_new_{kind}"), []

    def create_and_lose(path: Path) -> tuple[Path, int]:
        created, descriptor = create(path)
        if not removers:
            is_taken = threading.Event()

            def remove() -> None:
                with abandoned(created) as is_free:
                    assert is_free
                    is_taken.set()
                    time.sleep(0.2)
                    created.unlink() if kind == "file" else created.rmdir()

            removers.append(threading.Thread(target=remove))
            removers[0].start()
            is_taken.wait()
        return created, descriptor

    monkeypatch.setattr(files, f"_new_{kind}", create_and_lose)
    target = tmp_path / "target"
    if kind == "file":
        write_text(target, "whole")
        assert target.read_text() == "whole"
    else:
        with staging_folder(target) as staged:
            (staged / "content").write_text("whole")
            publish_folder(staged, target)
        assert (target / "content").read_text() == "whole"
    removers[0].join()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from vdeploy.core.files import atomic_write, staging_folder
with staging_folder(Path({str(tmp_path)!r}) / "bundle") as folder, atomic_write(folder.parent / "file") as file:
    (folder / "half").write_text("x")
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    (tmp_path / ".notes.tmp").write_text("the user's own")
    assert len(list(tmp_path.iterdir())) == 3
    with staging_folder(tmp_path / "bundle") as living:
        remove_stale(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([living, tmp_path / ".notes.tmp"])
