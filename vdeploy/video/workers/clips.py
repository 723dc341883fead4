"""Clips decoded in worker processes: one, or many ahead of whoever consumes them."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ClipError
from vdeploy.video.clips import Clip, ClipSpec
from vdeploy.video.file_checks import check_file
from vdeploy.video.reader import Stopped
from vdeploy.video.workers.answers import raise_refusal
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.messages import Request
from vdeploy.video.workers.pool import workers as _pool

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["decode_clip", "decode_clips"]

_GROUP = 64
"""Files that one confined process may read: to start one takes about as long as to decode a short clip."""

_MAX_WORKERS = 8


def decode_clip(path: Path | str, spec: ClipSpec) -> Clip:
    """Decodes the frames of one video that the network sees, as `vdeploy.video.clips.read_clip` does.

    Args:
        path: A video file of any kind that FFmpeg reads.
        spec: Number and size of the frames.

    Returns:
        The clip.

    Raises:
        ClipError: The file is missing, empty, no video, no frame of it can be decoded, or it ends its decoder.
        UserError: No decoder can be started.
    """
    return _decode(Path(path), spec, (), threading.Event())


def decode_clips(
    paths: Iterable[Path], spec: ClipSpec, *, workers: int | None = None, ahead: int | None = None
) -> Generator[tuple[Path, Clip | ClipError], None, None]:
    """Decodes many videos in processes, ahead of whoever consumes them.

    At most ``ahead`` clips are decoded or being decoded beyond the one handed out last, so memory stays bounded
    however slow the consumer is, and an iterator of ``paths`` is consumed no faster than that. Of a sequence, up to 64
    files that follow each other are decoded by one process. Each process decodes on one thread. Closing the generator,
    an error in the consumer and Ctrl-C give up what is being decoded and leave no thread behind.

    Args:
        paths: Video files.
        spec: Number and size of the frames.
        workers: Decoder processes; as many as there are CPUs for this process, but at most 8, if not given.
        ahead: Clips to look ahead; twice ``workers`` if not given.

    Yields:
        Each path in the order given, with its clip or with the error that says why there is none.

    Raises:
        UserError: No decoder can be started.
        ValueError: ``workers`` or ``ahead`` is less than 1.
    """
    workers = min(_cpus(), _MAX_WORKERS) if workers is None else workers
    ahead = 2 * workers if ahead is None else ahead
    if workers < 1 or ahead < 1:
        raise ValueError(f"workers and ahead must be at least 1, not {workers} and {ahead}")
    return _read_ahead(_grouped(paths), spec, workers, ahead)


def _grouped(paths: Iterable[Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Each path with the group of its file; empty where the further files are not known yet."""
    if not isinstance(paths, Sequence):
        yield from ((Path(path), ()) for path in paths)
        return
    for start in range(0, len(paths), _GROUP):
        portion = [Path(path) for path in paths[start : start + _GROUP]]
        group = tuple(os.path.abspath(path) for path in portion)  # noqa: PTH100  resolve() would follow links
        yield from ((path, group) for path in portion)


def _read_ahead(
    paths: Iterator[tuple[Path, tuple[str, ...]]], spec: ClipSpec, workers: int, ahead: int
) -> Generator[tuple[Path, Clip | ClipError], None, None]:
    stop = threading.Event()
    threads = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="clip-decoder")
    pending: collections.deque[tuple[Path, concurrent.futures.Future[Clip]]] = collections.deque()

    def submit(count: int) -> None:
        for path, group in itertools.islice(paths, count):
            pending.append((path, threads.submit(_decode, path, spec, group, stop)))

    try:
        submit(ahead)
        while pending:
            path, future = pending.popleft()
            try:
                outcome: Clip | ClipError = future.result()
            except ClipError as error:
                outcome = error
            submit(1)
            yield path, outcome
    finally:
        stop.set()
        threads.shutdown(wait=True, cancel_futures=True)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode(path: Path, spec: ClipSpec, group: tuple[str, ...], stop: threading.Event) -> Clip:
    def check() -> None:
        if stop.is_set():
            raise Stopped

    check()
    check_file(path)
    shape = (spec.samples, spec.size, spec.size, 3)
    source = os.path.abspath(path)  # noqa: PTH100  resolve() would follow links
    arguments = {"spec": dataclasses.asdict(spec)}
    request = Request("clip", source, DecodingLimits.for_own_files(), arguments, group, largest=int(np.prod(shape)))
    with contextlib.closing(_pool.answer(path, request, check)) as messages:
        for values, payload in messages:
            raise_refusal(path, values)
            if len(payload) == request.largest:
                frames = np.frombuffer(payload, np.uint8).reshape(shape)
                return _clip(path, frames, values)
    raise ClipError(path, "cannot be decoded: its decoder sent no frames")


def _clip(path: Path, frames: npt.NDArray[np.uint8], values: Mapping[str, Any]) -> Clip:
    try:
        warnings = tuple(str(warning) for warning in values["warnings"])
        return Clip(frames, int(values["decoded_frames"]), int(values["header_frames"]), float(values["fps"]), warnings)
    except (KeyError, TypeError, ValueError):
        raise ClipError(path, "cannot be decoded: its decoder sent something other than a clip") from None
