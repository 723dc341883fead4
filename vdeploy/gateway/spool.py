"""The folder for uploads, and what a client gets when it is full."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator

from vdeploy.gateway.logs import log_event
from vdeploy.gateway.problems import unavailable

__all__ = ["writing_to_spool"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def writing_to_spool() -> Iterator[None]:
    """Turn an error of writing to the folder for uploads into an answer and a log line.

    Raises:
        Problem: 503; the disk is full, or cannot be written.
    """
    try:
        yield
    except OSError as error:
        log_event("spool_failed", level=logging.ERROR, reason=error.strerror or str(error))
        if error.errno in _FULL:
            raise unavailable("spool_full", "the gateway's folder for uploads is full", retry_after_s=10) from error
        raise unavailable("spool_failed", "the gateway's folder for uploads cannot be written") from error
