"""Whether a file or a folder can be written, asked before the work whose result is to go there."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from vdeploy.core.errors import UserError

__all__ = ["refuse_unwritable"]


def refuse_unwritable(path: Path, *, folder: bool = False) -> None:
    """Makes sure that something can be written, as far as that can be known; leaves nothing behind.

    Args:
        path: A file, or a folder of files, that is to be made or replaced; folders above it may be missing.
        folder: Whether it is a folder.

    Raises:
        UserError: It cannot be written.
    """
    place = path.absolute() if folder else path.absolute().parent
    try:
        if not folder and path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        while not os.path.lexists(place):
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})", "choose another place") from error
