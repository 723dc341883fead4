"""Ends the process that decodes a file, by a signal, while it decodes it."""

from __future__ import annotations

import contextlib
import fractions
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av

from testing.videos import write_numbered
from vdeploy.video.workers.pool import workers

__all__ = ["children", "cpu_seconds", "kill_decoder_of", "write_heavy"]


def write_heavy(path: Path, frames: int = 5000) -> Path:
    """Writes a video that takes seconds to decode: so many times the same large picture."""
    with tempfile.TemporaryDirectory() as folder:
        shape = {"width": 640, "height": 480, "codec": "mjpeg", "pixel_format": "yuvj420p"}
        one = write_numbered(Path(folder) / "one.avi", 1, **shape)
        with av.open(str(one)) as read:
            jpeg = next(bytes(packet) for packet in read.demux(video=0))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for number in range(frames):
            packet = av.Packet(jpeg)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = fractions.Fraction(1, 25), number == 0
            container.mux(packet)
    return path


def children(pid: int) -> list[int]:
    """Processes that a process has started and not waited for."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def kill_decoder_of(path: Path, number: int = signal.SIGSEGV) -> Iterator[list[int]]:
    """Sends a signal to the confined process that decodes a file of this program, as soon as it decodes it.

    Yields:
        Ids of the processes that got it.
    """
    done, killed = threading.Event(), []

    def watch() -> None:
        while not done.is_set() and not killed:
            for process in workers.processes:
                if process.source == str(path.absolute()) and (not process.group or process.source in process.group):
                    for child in children(process.pid):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, number)
                            killed.append(child)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        done.set()
        watcher.join()
