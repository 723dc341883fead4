"""Fair waiting for a few shared things: owners take turns, and none holds more than its share."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from vdeploy.gateway.service_times import ServiceTimes

__all__ = ["Turns"]

_T = TypeVar("_T")
_CHECK_SECONDS = 0.2
_MEMORY_SECONDS = 10.0
_NOTHING_SECONDS = 1e-3
_TOLERANCE = 1.1


class Turns(Generic[_T]):
    """Lends things to threads. Of the owners that wait, the one that holds the fewest is served first.

    Args:
        things: What is lent.
        share: How many one owner may hold at a time; read at every decision.
    """

    def __init__(self, things: Iterable[_T], share: Callable[[], int]) -> None:
        self._idle = [(thing, "") for thing in things]
        self._size = len(self._idle)
        self._times = ServiceTimes()
        self._share = share
        self._waiting: dict[str, collections.deque[object]] = {}
        self._served: dict[str, int] = {}
        self._numbers = itertools.count()
        self._holds: dict[object, tuple[str, float]] = {}
        self._used: dict[str, float] = {}
        self._used_at = time.monotonic()
        self._condition = threading.Condition()

    @property
    def expected_s(self) -> float:
        """Seconds until one who came now would be done, if all take as long as the last ones; 0 if a thing is idle."""
        with self._condition:
            waiting = sum(len(queue) for queue in self._waiting.values())
            if len(self._idle) > waiting:
                return 0.0
            return (1 + (waiting + 1) / self._size) * self._times.expect(1)

    def is_heavy(self, owner: str) -> bool:
        """Whether an owner has lately held the things for longer than the others on average.

        Who has no name is not counted.
        """
        with self._condition:
            self._forget()
            used, now = self._used.copy(), time.monotonic()
            for holder, since in self._holds.values():
                used[holder] = used.get(holder, 0.0) + now - since
            used.pop("", None)
            return used.get(owner, 0.0) * len(used) > sum(used.values()) * _TOLERANCE

    @contextlib.contextmanager
    def borrow(self, owner: str, patience_s: float | None, check: Callable[[], None]) -> Iterator[_T]:
        """Hold one of the things for the duration of the block.

        Args:
            owner: Who asks.
            patience_s: Seconds to wait; ``None`` waits as long as `check` allows.
            check: Called while waiting; what it raises ends the wait.

        Yields:
            The thing.

        Raises:
            TimeoutError: None is free in time.
        """
        ticket = object()
        thing = self._take(owner, patience_s, check, ticket)
        try:
            yield thing
        finally:
            with self._condition:
                self._idle.append((thing, owner))
                self._forget()
                seconds = time.monotonic() - self._holds.pop(ticket)[1]
                self._used[owner] = self._used.get(owner, 0.0) + seconds
                self._times.record(1, seconds)
                self._condition.notify_all()

    def _take(self, owner: str, patience_s: float | None, check: Callable[[], None], ticket: object) -> _T:
        deadline = None if patience_s is None else time.monotonic() + patience_s
        with self._condition:
            queue = self._waiting.setdefault(owner, collections.deque())
            queue.append(ticket)
            try:
                while not (self._idle and queue[0] is ticket and self._next_owner() == owner):
                    check()
                    left = _CHECK_SECONDS if deadline is None else deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    self._condition.wait(min(left, _CHECK_SECONDS))
                self._holds[ticket] = owner, time.monotonic()
                self._served[owner] = next(self._numbers)
                return self._idle.pop(self._choose(owner))[0]
            finally:
                queue.remove(ticket)
                if not queue:
                    del self._waiting[owner]
                self._condition.notify_all()

    def _choose(self, owner: str) -> int:
        """Position of what the owner held last, else of what has been idle the longest.

        So nobody waits for what another leaves to be cleaned up.
        """
        return max((n for n, (_, last) in enumerate(self._idle) if last == owner), default=0)

    def _forget(self) -> None:
        """Let what was used decay: after `_MEMORY_SECONDS`, a third of it counts."""
        now = time.monotonic()
        factor = math.exp((self._used_at - now) / _MEMORY_SECONDS)
        self._used = {owner: used * factor for owner, used in self._used.items() if used * factor > _NOTHING_SECONDS}
        self._used_at = now

    def _next_owner(self) -> str | None:
        share, held = self._share(), collections.Counter(owner for owner, _ in self._holds.values())
        candidates = [owner for owner in self._waiting if held[owner] < share]
        return min(candidates, key=lambda owner: (held[owner], self._served.get(owner, -1)), default=None)
