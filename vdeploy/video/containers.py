"""Opening of containers for reading, the same in every release of PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["open_container"]

_METADATA = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""Titles and comments need not be UTF-8; since PyAV 19 that is no error."""


def open_container(
    name: str, options: Mapping[str, str], *, container: str | None = None, timeout_s: float | None = None
) -> InputContainer:
    """Opens a file, an address or a device.

    Args:
        name: What to open.
        options: Of FFmpeg's protocol and format.
        container: FFmpeg's name of the format; found from the content if left out.
        timeout_s: How long to wait while it is opened and, later, for each packet; without it, for ever.

    Raises:
        av.error.FFmpegError: It cannot be opened.
        OSError: The system refuses it.
        ValueError: The name or an option is malformed.
    """
    timeout = None if timeout_s is None else (timeout_s, timeout_s)
    opened: InputContainer = av.open(name, format=container, options=dict(options), timeout=timeout, **_METADATA)
    return opened
