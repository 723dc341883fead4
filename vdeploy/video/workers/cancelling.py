"""Cancelling what a worker decodes: its confined child is ended, and the worker stays for the next file.

The child may have written half a message, and a malicious file may have made it write anything. So what is in the pipe
is skipped up to a mark, which is drawn at random after the child was forked and comes by a pipe that the child does not
have.
"""

from __future__ import annotations

import os
import secrets
from typing import BinaryIO

__all__ = ["CancelPipe", "acknowledge"]

_MARK_BYTES = 34


class CancelPipe:
    """The program's end of the pipe by which it cancels.

    Attributes:
        passed_on: Descriptor for the worker.
    """

    def __init__(self) -> None:
        self.passed_on, self._ours = os.pipe()

    def keep_one_end(self) -> None:
        """Close the worker's end, which it has inherited."""
        os.close(self.passed_on)

    def ask(self) -> bytes:
        """Ask the worker to end its child; return the mark that it will write after all that the child wrote.

        Raises:
            OSError: The worker has ended.
        """
        mark = b"\n%s\n" % secrets.token_hex((_MARK_BYTES - 2) // 2).encode()
        os.write(self._ours, mark)
        return mark

    def close(self) -> None:
        """Close the program's end."""
        os.close(self._ours)


def acknowledge(pipe: int, out: BinaryIO) -> None:
    """Write the mark that the program has sent.

    Args:
        pipe: What `CancelPipe.passed_on` was.
        out: Where messages go; no child writes to it any more.
    """
    out.write(os.read(pipe, _MARK_BYTES))
    out.flush()
