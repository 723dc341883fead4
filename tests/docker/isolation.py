"""A container engine's own corner of the machine while a test lasts: namespaces, a disk and a folder.

With the engine's first process, and with the process that started it, everything in the namespaces ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from testing.debian import Unavailable
from tests.docker.leftovers import make_folder, new_mark, remove_leftovers

__all__ = ["Isolated"]

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0
DISK_BYTES = 32 << 30

_ON_A_DISK_OF_ITS_OWN = 'mount -o loop,noatime "$1" "$2" || true; shift 2; exec "$@"'
"""Where there is no loop device, the data lies in the folder itself."""


class Isolated(ABC):
    """Starts something for a `with` block, in process and mount namespaces of its own.

    Attributes:
        mark: What all that it leaves outside its namespaces bears in its name.
        folder: Everything that it writes; `folder / "data"` is a disk of its own.

    Raises:
        Unavailable: It cannot be started here; the message says why.
    """

    def __init__(self, programs: Sequence[str] = ()) -> None:
        if os.geteuid() != 0:
            raise Unavailable("only root can start a container engine")
        if "\toverlay\n" not in Path("/proc/filesystems").read_text():
            raise Unavailable("this kernel has no overlay file system")
        for program in ("unshare", "setpriv", *programs):
            if shutil.which(program) is None:
                raise Unavailable(f"there is no program {program}")
        self.mark = new_mark()
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it with all that it has started, and removes everything of it."""
        process, self._process = self._process, None
        if process is not None:
            for child in _children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        remove_leftovers(self.mark)

    @property
    def first_process(self) -> int:
        """The first process in the namespaces, as the machine numbers it."""
        assert self._process is not None, "it does not run"
        (child,) = _children(self._process.pid)
        return child

    @abstractmethod
    def _start(self) -> None:
        """Starts it in `folder`, by `_launch`."""

    def _enter(self) -> None:
        """Sweeps up after others that were killed, and starts."""
        remove_leftovers()
        self.folder = make_folder(self.mark)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _launch(
        self, command: Sequence[str], *, ready: str, environment: Mapping[str, str], namespaces: Sequence[str] = ()
    ) -> None:
        """Starts the first process and waits until it has said that it is ready.

        Args:
            command: It runs beside `folder / "data"`, and ends on SIGTERM.
            ready: What its output then holds.
            environment: All of its environment.
            namespaces: More than those of processes and mounts, as `unshare` calls them.
        """
        (self.folder / "data").mkdir()
        own = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *(f"--{name}" for name in namespaces)]
        start = ["sh", "-c", _ON_A_DISK_OF_ITS_OWN, "sh", str(self._disk()), str(self.folder / "data")]
        log = self.folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", *own, *start, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while ready not in log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                told = log.read_text(errors="replace").strip().splitlines()
                raise Unavailable(f"the engine does not start: {told[-1] if told else 'it told no reason'}")
            time.sleep(0.1)

    def _disk(self) -> Path:
        """A sparse file with an empty file system: a hundred thousand files of images go in one step with it."""
        disk = self.folder / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        command = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(disk)]
        with contextlib.suppress(OSError):
            subprocess.run(command, capture_output=True, check=False, timeout=START_TIMEOUT_SECONDS)
        return disk


def _children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []
