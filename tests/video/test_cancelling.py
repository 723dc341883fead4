"""A cancelled file leaves nothing behind in the answers that follow, whatever its decoder has written."""

from __future__ import annotations

import io
import os
import threading
import time

import pytest

from vdeploy.video.workers.cancelling import CancelPipe, acknowledge
from vdeploy.video.workers.message_reader import MessageReader
from vdeploy.video.workers.messages import Channel


@pytest.mark.parametrize(
    "left", [b"", b'{"bytes": 9', b'{"end": true, "bytes": 0}\n', b"\n\n" * 70_000, b'{"bytes": 100}\nhalf'], ids=repr
)
def test_what_a_cancelled_decoder_has_written_is_skipped(left: bytes) -> None:
    source, sink = os.pipe()
    cancel, requests = CancelPipe(), io.BytesIO(b"the cancelled one\nthe next\n")
    with os.fdopen(source, "rb", buffering=0) as pipe, os.fdopen(sink, "wb") as out:

        def worker() -> None:
            out.write(left)
            assert acknowledge(cancel.passed_on, Channel(requests, out), 0) == 1
            out.write(b'{"ready": true}\n')
            out.flush()

        reader = MessageReader(pipe)
        mark = cancel.ask(1)
        thread = threading.Thread(target=worker)
        thread.start()
        reader.skip(mark, time.monotonic() + 10)
        assert reader.read(time.monotonic() + 10, 0, lambda: None).values == {"ready": True}
        thread.join()
    assert requests.read() == b"the next\n"
    cancel.keep_one_end()
    cancel.close()


def test_a_mark_that_does_not_come_is_not_waited_for() -> None:
    source, sink = os.pipe()
    with os.fdopen(source, "rb", buffering=0) as pipe, os.fdopen(sink, "wb"), pytest.raises(TimeoutError):
        MessageReader(pipe).skip(b"\nmark\n", time.monotonic() + 0.1)
