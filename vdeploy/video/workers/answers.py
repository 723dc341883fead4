"""How tasks say why a file or a live source cannot be decoded, and how that becomes the error which it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2

from vdeploy.core.errors import ClipError, SourceError
from vdeploy.video.live_reader import LIVE_HINT
from vdeploy.video.workers.messages import Channel

__all__ = ["DecoderDefectError", "raise_refusal", "raise_source_refusal", "refusing"]

_LONGEST_REASON = 200


class DecoderDefectError(Exception):
    """A decoder process met with a defect of this program."""


@contextlib.contextmanager
def refusing(channel: Channel, name: str = "") -> Iterator[None]:
    """Say why a file or a live source cannot be decoded where the block ends by an error.

    Args:
        channel: Where to say it.
        name: Name of the live source.
    """
    try:
        yield
    except ClipError as error:
        channel.send({"end": True, "reason": error.reason})
    except SourceError as error:
        channel.send({"end": True, "reason": error.message.removeprefix(f"{name} ")})
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


def raise_source_refusal(name: str, values: Mapping[str, Any]) -> None:
    """Raise what a last message says, if it says that a live source cannot be decoded.

    Args:
        name: The source.
        values: Fields of the message.

    Raises:
        SourceError: It cannot be opened or decoded.
        DecoderDefectError: The task failed.
    """
    if "reason" in values:
        raise SourceError(f"{name} {str(values['reason'])[:_LONGEST_REASON]}", LIVE_HINT)
    if "defect" in values:
        raise DecoderDefectError(f"{name}: {values['defect']}")
