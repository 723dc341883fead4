"""Deadlines that clients set: work that its client would no longer wait for is refused early, or given up."""

from __future__ import annotations

import dataclasses
import math
import time

from vdeploy.gateway.problems import Problem

__all__ = ["HEADER", "NO_DEADLINE", "Deadline", "retry_after_s"]

HEADER = "X-Deadline-Ms"
"""Milliseconds that a client waits for the answer, from when it has sent the headers of its request."""

_LONGEST_RETRY_S = 60


@dataclasses.dataclass(frozen=True)
class Deadline:
    """When an answer is of no use any more.

    Attributes:
        at: On the clock of `time.perf_counter`; infinite without a deadline.
    """

    at: float = math.inf

    @property
    def remaining_s(self) -> float:
        """Seconds that are left, less than 0 afterwards."""
        return self.at - time.perf_counter()

    @property
    def timeout_s(self) -> float | None:
        """Seconds that are left, as a timeout; ``None`` without a deadline."""
        return None if math.isinf(self.at) else max(0.0, self.remaining_s)

    def admit(self, expected_s: float) -> None:
        """Return if an answer can be expected in time.

        Args:
            expected_s: Seconds until the answer.

        Raises:
            Problem: It would be too late; it says when the wait will be short enough.
        """
        self.check()
        late_s = expected_s - self.remaining_s
        if late_s > 0:
            after_s = retry_after_s(late_s)
            raise Problem(
                503,
                "overloaded",
                f"the answer would come {late_s:.2f} s after the deadline of this request",
                f"send it again after {after_s} s, or allow more time in {HEADER}",
                headers={"Retry-After": str(after_s)},
            )

    def check(self) -> None:
        """Return if there is time left.

        Raises:
            Problem: There is none.
        """
        if self.remaining_s <= 0:
            raise self.exceeded()

    def exceeded(self) -> Problem:
        """503: the deadline has passed while the request waited."""
        return Problem(
            503,
            "deadline_exceeded",
            "the deadline of this request has passed before it was answered",
            f"allow more time in {HEADER}, or send less at a time",
            headers={"Retry-After": "1"},
        )


NO_DEADLINE = Deadline()


def retry_after_s(wait_s: float) -> int:
    """Whole seconds for ``Retry-After``, 1 to 60, from seconds that a request would wait in excess."""
    return max(1, math.ceil(min(wait_s, _LONGEST_RETRY_S)))
