"""Turn errors of the operating system while writing a model repository into one-line errors."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from vdeploy.core.errors import RepositoryError

__all__ = ["one_line_errors"]

_HINTS = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some space, or choose another folder",
    errno.ENOTDIR: "move the file in its way, or choose another folder",
    errno.EEXIST: "move the file in its way, or choose another folder",
}


@contextlib.contextmanager
def one_line_errors(root: Path, remedy: str = "") -> Iterator[None]:
    """Explains what fails in the block.

    Args:
        root: The repository's folder.
        remedy: What to do about it; left out, what the error suggests.

    Raises:
        RepositoryError: Something in it cannot be written.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or root
        raise RepositoryError(
            f"the model repository {root} cannot be written: {where}: {error.strerror or error}",
            remedy or _HINTS.get(error.errno or 0, "make the folder writable, or choose another"),
        ) from error
