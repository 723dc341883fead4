"""Cancelling what a worker decodes: its confined child is ended, and the worker stays for the next file.

The child may have written half a message, and a malicious file may have made it write anything. So what is in the pipe
is skipped up to a mark, which is drawn at random after the child was forked and comes by a pipe that the child does not
have. A cancellation names its request by number: the worker may still wait for the child of the request before, which
has given its whole answer and is about to exit.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdeploy.video.workers.messages import Channel

__all__ = ["CancelPipe", "acknowledge"]

_NUMBER_BYTES = 16
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

    def ask(self, number: int) -> bytes:
        """Ask the worker to give a request up; return the mark that it will write after all that belongs to that.

        Args:
            number: Which of the requests that were sent to this worker, from 1; the last one.

        Raises:
            OSError: The worker has ended.
        """
        mark = b"\n%s\n" % secrets.token_hex((_MARK_BYTES - 2) // 2).encode()
        os.write(self._ours, b"%0*d%s" % (_NUMBER_BYTES, number, mark))
        return mark

    def close(self) -> None:
        """Close the program's end."""
        os.close(self._ours)


def acknowledge(pipe: int, channel: Channel, number: int) -> int:
    """Leave out the request that is cancelled, if it has not been read yet, and write the mark.

    Args:
        pipe: What `CancelPipe.passed_on` was.
        channel: Where requests come from and messages go; no child writes to it any more.
        number: How many requests have been read.

    Returns:
        How many have been read now.
    """
    cancelled = int(os.read(pipe, _NUMBER_BYTES))
    mark = os.read(pipe, _MARK_BYTES)
    while number < cancelled:
        channel.receive()
        number += 1
    channel.out.write(mark)
    channel.out.flush()
    return number
