"""How tasks say why a file cannot be decoded, and how that becomes the error which it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2

from vdeploy.core.errors import ClipError
from vdeploy.video.workers.messages import Channel

__all__ = ["DecoderDefectError", "raise_refusal", "refusing"]


class DecoderDefectError(Exception):
    """A decoder process met with a defect of this program."""


@contextlib.contextmanager
def refusing(channel: Channel) -> Iterator[None]:
    """Say why a file cannot be decoded where the block ends by an error.

    Args:
        channel: Where to say it.
    """
    try:
        yield
    except ClipError as error:
        channel.send({"end": True, "reason": error.reason})
    except (MemoryError, cv2.error):
        channel.send({"end": True, "reason": "needs more memory to decode than is allowed"})
    except Exception as error:
        channel.send({"end": True, "defect": f"{type(error).__name__}: {error}"})


def raise_refusal(path: Path, values: Mapping[str, Any]) -> None:
    """Raise what a last message says, if it says that a file cannot be decoded.

    Args:
        path: The file.
        values: Fields of the message.

    Raises:
        ClipError: It cannot be decoded.
        DecoderDefectError: The task failed.
    """
    if "reason" in values:
        raise ClipError(path, str(values["reason"]))
    if "defect" in values:
        raise DecoderDefectError(f"{path}: {values['defect']}")
