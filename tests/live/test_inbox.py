"""Frames that nobody takes in time are thinned out, the newest one never."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from vdeploy.live.inbox import Arrival, Inbox
from vdeploy.timeline.sliding import Sample

FRAME = np.zeros((1, 1, 3), np.uint8)


def arrival(stream: int, index: int) -> Arrival:
    return Arrival(Sample(stream, index, FRAME), float(index))


@pytest.mark.parametrize("capacity", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 4, 5, 33, 200])
def test_what_is_left_is_even_and_ends_with_the_newest(capacity, count):
    inbox = Inbox(capacity)
    for index in range(count):
        inbox.put(arrival(0, index))
    taken = [one.sample.index for one in inbox.take(0)]
    assert len(taken) <= capacity
    assert taken == sorted(taken)
    assert taken[-1] == count - 1
    assert len(taken) + inbox.dropped(0) == count
    assert inbox.take(0) == []


def test_cameras_do_not_crowd_each_other_out():
    inbox = Inbox(2)
    inbox.put(arrival(1, 0))
    for index in range(50):
        inbox.put(arrival(0, index))
    assert [one.sample.index for one in inbox.take(0) if one.sample.stream == 1] == [0]
    assert inbox.dropped(1) == 0
    assert inbox.dropped(0) > 40


def test_taking_waits_for_a_frame():
    inbox = Inbox(2)
    thread = threading.Thread(target=lambda: (time.sleep(0.1), inbox.put(arrival(0, 7))))
    thread.start()
    assert [one.sample.index for one in inbox.take(30.0)] == [7]
    thread.join()
