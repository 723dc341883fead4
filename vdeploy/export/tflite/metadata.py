"""What a TFLite file says about itself: the names of the classes, the frames that it expects, who wrote it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from vdeploy import __version__
from vdeploy.core.errors import BundleError
from vdeploy.export.tflite.flatbuffer import open_model, with_buffer
from vdeploy.video.clips import ClipSpec

__all__ = ["BUFFER", "Metadata", "add_metadata", "read_metadata"]

BUFFER = "vdeploy"
"""Name of the metadata buffer, which holds UTF-8 JSON."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is written into a TFLite file.

    Attributes:
        labels: Names of the two probabilities, in order.
        clip: How a video becomes the frames that the network sees.
        vdeploy_version: The version that wrote the file.
    """

    labels: tuple[str, ...]
    clip: ClipSpec
    vdeploy_version: str = __version__


def add_metadata(content: bytes, metadata: Metadata) -> bytes:
    """Adds metadata to the bytes of a TFLite file."""
    values = {**dataclasses.asdict(metadata), "clip": metadata.clip.to_dict()}
    return with_buffer(content, BUFFER, json.dumps(values, sort_keys=True, ensure_ascii=False).encode())


def read_metadata(path: Path) -> Metadata:
    """Reads the metadata of a TFLite file.

    Raises:
        MissingExtraError: LiteRT is not installed.
        BundleError: The file is no TFLite file, or none of ours.
    """
    model = open_model(path)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == BUFFER.encode():
            return _parse(path, model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    raise BundleError(f"{path} holds no metadata of vdeploy", "export the run again")


def _parse(path: Path, content: bytes) -> Metadata:
    try:
        values: dict[str, Any] = json.loads(content)
        return Metadata(tuple(values["labels"]), ClipSpec.from_dict(values["clip"]), values["vdeploy_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"the metadata in {path} cannot be read ({error})", "export the run again") from error
