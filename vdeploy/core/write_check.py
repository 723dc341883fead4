"""Check, before the work starts, that its result can be written."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from vdeploy.core.errors import UserError

__all__ = ["refuse_unwritable"]


def refuse_unwritable(path: Path, *, folder: bool = False) -> None:
    """Checks that a file or folder can be written, as far as this can be known in advance.

    Args:
        path: A file or folder to create or replace; its parent folders may be missing.
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
