"""Receive bodies within limits: a multipart upload into a file, an array into memory."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from vdeploy.gateway.problems import Problem, too_large
from vdeploy.gateway.spool import writing_to_spool

if TYPE_CHECKING:
    import numpy.typing as npt
    from python_multipart.multipart import MultipartCallbacks

    from vdeploy.video.clips import ClipSpec

__all__ = ["FIELD", "received_array", "received_file"]

FIELD = "video"
"""Name of the part that holds the file."""

_HEADER_BYTES = 4096
_FRAMING_BYTES = 16_384
_PARTS = 16
_PART_HEADER_BYTES = 8192
_ARRAY_HINT = "send the array as numpy.save writes it: Content-Type application/octet-stream"


@contextlib.asynccontextmanager
async def received_file(request: Request, folder: Path, *, limit_bytes: int, limit_s: float) -> AsyncIterator[Path]:
    """Receive the file of a multipart upload, and delete it when the block ends.

    Args:
        request: The request; its body has not been read.
        folder: Where the file is created, under a random name.
        limit_bytes: Largest size of the file.
        limit_s: Seconds that it may take to arrive.

    Yields:
        The file.

    Raises:
        Problem: The body is not a multipart form with one file, is too large, or arrives too slowly.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
        raise Problem(
            415, "not_multipart", "the body is not multipart/form-data", f"send the file as the field {FIELD!r}"
        )
    _check_length(request, limit_bytes + _FRAMING_BYTES)
    with writing_to_spool():
        descriptor, name = tempfile.mkstemp(dir=folder)
    path = Path(name)
    try:
        with writing_to_spool(), os.fdopen(descriptor, "wb") as file:
            form = _Form(boundary, file, limit_bytes)
            async with _in_time(limit_s):
                await _feed(request, form, limit_bytes + _FRAMING_BYTES)
        form.check()
        yield path
    finally:
        path.unlink(missing_ok=True)


async def received_array(request: Request, spec: ClipSpec, *, limit_s: float) -> npt.NDArray[np.uint8]:
    """Receive the frames of one clip.

    Args:
        request: The request; its body has not been read.
        spec: Number and size of the frames.
        limit_s: Seconds that they may take to arrive.

    Returns:
        ``uint8[T, S, S, 3]``.

    Raises:
        Problem: The body is not such an array, is too large, or arrives too slowly.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"application/octet-stream", "application/x-npy"}:
        raise Problem(415, "not_an_array", f"the body is {kind or 'of no type'}, not an array", _ARRAY_HINT)
    shape = (spec.frames, spec.size, spec.size, 3)
    size = int(np.prod(shape))
    _check_length(request, size + _HEADER_BYTES)
    body = bytearray()
    async with _in_time(limit_s):
        with _disconnects():
            async for chunk in request.stream():
                body += chunk
                if len(body) > size + _HEADER_BYTES:
                    raise too_large(size + _HEADER_BYTES)
    return _parse_array(body, shape)


def _parse_array(body: bytearray, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    head = io.BytesIO(bytes(body[:_HEADER_BYTES]))
    try:
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, is_fortran, dtype = read(head)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise Problem(422, "not_an_array", "the body is not a .npy array", _ARRAY_HINT) from None
    wanted = f"uint8{list(shape)}"
    if dtype != np.uint8 or found != shape or is_fortran:
        raise Problem(
            422,
            "wrong_shape",
            f"the array is {dtype}{list(found)}{' in Fortran order' if is_fortran else ''}, not {wanted}",
            "decode the video as GET /model says",
        )
    if len(body) - head.tell() != int(np.prod(shape)):
        raise Problem(422, "not_an_array", "the array is incomplete, or something follows it", _ARRAY_HINT)
    return np.frombuffer(body, np.uint8, offset=head.tell()).reshape(shape)


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit)


@contextlib.asynccontextmanager
async def _in_time(limit_s: float) -> AsyncIterator[None]:
    try:
        with anyio.fail_after(limit_s):
            yield
    except TimeoutError:
        raise Problem(
            408, "too_slow", f"the body did not arrive within {limit_s:g} s", headers={"Connection": "close"}
        ) from None


@contextlib.contextmanager
def _disconnects() -> Iterator[None]:
    try:
        yield
    except ClientDisconnect:
        raise Problem(400, "disconnected", "the client has disconnected") from None


async def _feed(request: Request, form: _Form, limit_bytes: int) -> None:
    received = 0
    with _disconnects():
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit_bytes:
                raise too_large(limit_bytes)
            form.write(chunk)


class _Form:
    """A multipart form with one file, which is written to the disk as it arrives."""

    def __init__(self, boundary: bytes, file: BinaryIO, limit_bytes: int) -> None:
        self._file = file
        self._limit = limit_bytes
        self._size = 0
        self._files = self._parts = 0
        self._ended = False
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._header_bytes = 0
        self._is_video = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._extend_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._extend_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise Problem(400, "broken_form", "the multipart form is broken") from None

    def check(self) -> None:
        if not self._ended:
            raise Problem(400, "broken_form", "the multipart form has no end")
        if self._files != 1:
            raise Problem(422, "no_video", f"the form has {self._files} parts named {FIELD!r}, not one")

    def _begin(self) -> None:
        self._header = (bytearray(), bytearray())
        self._header_bytes = 0
        self._is_video = False
        self._parts += 1
        if self._parts > _PARTS:
            raise Problem(400, "broken_form", f"the multipart form has more than {_PARTS} parts")

    def _extend_header(self, index: int, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > _PART_HEADER_BYTES:
            raise Problem(400, "broken_form", f"a part has headers of more than {_PART_HEADER_BYTES} bytes")
        self._header[index].extend(data)

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(value))
            self._is_video = options.get(b"name") == FIELD.encode()
            self._files += self._is_video
        self._header = (bytearray(), bytearray())

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_video:
            return
        self._size += end - start
        if self._size > self._limit:
            raise too_large(self._limit)
        self._file.write(data[start:end])

    def _end(self) -> None:
        self._ended = True
