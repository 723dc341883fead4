"""Damaged and hostile video files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from testing.videos import numbered_frame, promise_frames, write_audio, write_numbered

__all__ = ["mutated_videos"]

_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"\x7fELF",
    b"#EXTM3U\n",
    b"RIFF\xff\xff\xff\xffAVI ",
)


def mutated_videos(folder: Path, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield files, each with a description: a few decompression bombs, then intact videos with seeded damage."""
    folder.mkdir(parents=True, exist_ok=True)
    bombs = dict(_bombs(folder))
    yield from list(bombs.items())[:count]
    intact = [path.read_bytes() for path in _intact(folder)]
    random = np.random.default_rng(seed)
    ways: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
        _truncate,
        _flip,
        _flip_head,
        _zero,
        _swap,
        _extreme,
        _prefix,
        _repeat,
    )
    for number in range(count - len(bombs)):
        way = ways[number % len(ways)]
        content = intact[int(random.integers(len(intact)))]
        yield f"{way.__name__.strip('_')} {number}", way(content, random)


def _intact(folder: Path) -> Iterator[Path]:
    yield write_numbered(folder / "a.mp4", 30)
    yield write_numbered(folder / "b.avi", 30)
    yield write_numbered(folder / "c.mkv", 30, codec="mpeg4")
    yield write_numbered(folder / "d.webm", 30, codec="libvpx")
    yield write_numbered(folder / "e.avi", 10, codec="mjpeg", pixel_format="yuvj420p")


def _bombs(folder: Path) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "sound only", write_audio(folder / "sound.mp4").read_bytes()
    yield "a thousand million frames promised", promise_frames(write_numbered(folder / "p.avi", 5), 10**9).read_bytes()
    large = write_numbered(folder / "large.mp4", 1, width=4096, height=4096).read_bytes()
    yield "large frames", large
    yield "large frames in a small container", large.replace(struct.pack(">HH", 4096, 4096), struct.pack(">HH", 64, 64))
    small = write_numbered(folder / "small.mp4", 5).read_bytes()
    yield (
        "small frames in a large container",
        small.replace(struct.pack(">HH", 64, 48), struct.pack(">HH", 65535, 65535)),
    )
    yield "many frames", write_numbered(folder / "many.avi", 5000, width=32, height=32).read_bytes()
    yield "a hundred streams", _many_streams(folder / "streams.mkv", 100).read_bytes()
    yield "other files named", f"ffconcat version 1.0\nfile '{folder}/small.mp4'\n".encode()
    yield "zeros", bytes(500_000)


def _many_streams(path: Path, count: int) -> Path:
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("mpeg4", rate=25) for _ in range(count)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(3):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
                frame.pts = number
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode())
    return path


def _truncate(content: bytes, random: np.random.Generator) -> bytes:
    return content[: int(random.integers(1, len(content)))]


def _flip(content: bytes, random: np.random.Generator) -> bytes:
    return _flipped(content, random, len(content), int(random.integers(1, 500)))


def _flip_head(content: bytes, random: np.random.Generator) -> bytes:
    return _flipped(content, random, 600, int(random.integers(1, 40)))


def _flipped(content: bytes, random: np.random.Generator, end: int, count: int) -> bytes:
    values = np.frombuffer(content, np.uint8).copy()
    places = random.integers(0, min(end, len(values)), count)
    values[places] ^= (1 << random.integers(0, 8, count)).astype(np.uint8)
    return values.tobytes()


def _zero(content: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(len(content)))
    length = int(random.integers(1, 4000))
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


def _swap(content: bytes, random: np.random.Generator) -> bytes:
    first, second, third = sorted(random.integers(0, len(content), 3).tolist())
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def _extreme(content: bytes, random: np.random.Generator) -> bytes:
    """Set some 32-bit numbers of the header to the largest value."""
    values = bytearray(content)
    for place in random.integers(0, min(1200, len(values) - 4), int(random.integers(1, 6))):
        values[place : place + 4] = b"\xff\xff\xff\x7f"
    return bytes(values)


def _prefix(content: bytes, random: np.random.Generator) -> bytes:
    return _MAGIC[int(random.integers(len(_MAGIC)))] + content


def _repeat(content: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(len(content)))
    return content[:start] + content[start : start + 1000] * int(random.integers(2, 200)) + content[start:]
