"""Ends the process that decodes a file, by a signal, while it decodes it."""

from __future__ import annotations

import contextlib
import fractions
import itertools
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from vdeploy.video.workers.pool import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdeploy.video.workers.process import DecoderProcess

__all__ = ["children", "cpu_seconds", "kill_decoder_of", "write_heavy"]


def write_heavy(path: Path, frames: int = 12_000) -> Path:
    """Writes a video that takes seconds to decode: one key frame, and changes of which none can be left out."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        pictures = np.zeros((2, 1080, 1920, 3), np.uint8)
        pictures[1, :, :64] = 200
        encoded = [stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")) for picture in pictures]
        key, change = (bytes(packet) for packet in (*itertools.chain(*encoded), *stream.encode()))
        for number in range(frames):
            packet = av.Packet(change if number else key)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = fractions.Fraction(1, 25), number == 0
            container.mux(packet)
    return path


def children(pid: int) -> list[int]:
    """Processes that a process has started and that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(parent) == pid and state != "Z":
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

    def decodes(process: DecoderProcess, pid: int) -> bool:
        in_group = not process.group or process.source in process.group
        return process.pid == pid != 0 and process.source == str(path.absolute()) and in_group

    def watch() -> None:
        """Goes on after a signal: it may have reached the process of the file before, which was about to end."""
        while not done.is_set():
            for process in workers.processes:
                pid = process.pid
                found = children(pid) if decodes(process, pid) else []
                for child in found if decodes(process, pid) else []:
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
