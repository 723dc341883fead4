"""Frames of clips, decoded once however many formats of an export look at them."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import ClipError, ExportError
from vdeploy.video.clips import ClipSpec
from vdeploy.video.wanted_frames import frame_indices
from vdeploy.video.workers.clips import decode_clips

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DATA_HINT", "DecodedClips"]

DATA_HINT = "say where the clips of the run are: --data DIR"


class DecodedClips:
    """Decodes clips, and keeps their frames in a file.

    Args:
        spec: How a clip becomes frames.
        file: Where the frames are kept; if left out, they are decoded each time.
    """

    def __init__(self, spec: ClipSpec, file: Path | None = None) -> None:
        self._spec = spec
        self._file = file
        self._offsets: dict[tuple[Path, int], int] = {}

    def read(self, paths: Sequence[Path], count: int | None = None) -> Generator[npt.NDArray[np.uint8], None, None]:
        """Hand out one clip after the other; only a few are in memory at a time.

        Args:
            paths: Files of the clips, none twice.
            count: How many of a clip's T frames to hand out, evenly spaced; all if left out.

        Yields:
            ``uint8[count, H, W, 3]``, RGB.

        Raises:
            ExportError: A clip cannot be decoded.
            OSError: The frames cannot be kept.
        """
        chosen = frame_indices(self._spec.frames, count or self._spec.frames)
        missing = [path for path in paths if (path, len(chosen)) not in self._offsets]
        with contextlib.closing(decode_clips(missing, self._spec)) as decoded:
            for path in paths:
                if self._file is not None and (path, len(chosen)) in self._offsets:
                    yield self._kept(self._file, path, len(chosen))
                    continue
                _, outcome = next(decoded)
                if isinstance(outcome, ClipError):
                    raise ExportError(f"the clip {path} {outcome.reason}", DATA_HINT) from outcome
                frames = outcome.frames[chosen]
                self._keep(path, frames)
                yield frames

    def _keep(self, path: Path, frames: npt.NDArray[np.uint8]) -> None:
        if self._file is None:
            return
        with self._file.open("ab") as file:
            offset = file.tell()
            file.write(np.ascontiguousarray(frames).data)
        self._offsets[path, len(frames)] = offset

    def _kept(self, file: Path, path: Path, count: int) -> npt.NDArray[np.uint8]:
        shape = (count, self._spec.size, self._spec.size, 3)
        values = np.fromfile(file, np.uint8, int(np.prod(shape)), offset=self._offsets[path, count])
        return values.reshape(shape)
