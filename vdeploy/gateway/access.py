"""Authentication by API key, and limits on concurrent requests."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vdeploy.gateway.deadlines import retry_after_s
from vdeploy.gateway.problems import Problem, busy, too_many_requests

if TYPE_CHECKING:
    from starlette.requests import Request

    from vdeploy.gateway.keys import Key, KeyFile

__all__ = ["Access"]

_ANYONE = ""


class Access:
    """Identifies callers and counts their requests. Used by one event loop.

    Args:
        keys: API keys, of which every request needs one; ``None`` admits everyone.
        limit: Concurrent requests.
        limit_per_key: Of these, requests with one key.
        expected_s: Seconds that a request would wait now, for the time after which a refused one may come back.
    """

    def __init__(
        self,
        keys: KeyFile | None,
        *,
        limit: int,
        limit_per_key: int,
        expected_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._keys = keys
        self._limit = limit
        self._limit_per_key = limit_per_key
        self._expected_s = expected_s
        self._inside: collections.Counter[str] = collections.Counter()

    @property
    def asks_for_keys(self) -> bool:
        """Whether a key is needed."""
        return self._keys is not None

    @property
    def inside(self) -> int:
        """Requests in progress."""
        return self._inside.total()

    def identify(self, request: Request) -> Key | None:
        """The key of a request; ``None`` where no key is needed.

        Raises:
            Problem: The key is missing or unknown.
        """
        if self._keys is None:
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        key = self._keys.find(given) if given else None
        if key is None:
            raise Problem(
                401,
                "unauthorized",
                "the API key is unknown" if given else "an API key is needed",
                "send it as: Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
            )
        request.state.client = key.name
        return key

    def identify_admin(self, request: Request) -> Key:
        """The key of a request, which must be an administrator's.

        Raises:
            Problem: The key is missing, unknown or an ordinary one, or this gateway has no keys at all.
        """
        key = self.identify(request)
        if key is None or key.role != "admin":
            raise Problem(
                403, "forbidden", "this needs a key of an administrator", "vdeploy gateway keys add NAME --role admin"
            )
        return key

    @contextlib.contextmanager
    def slot(self, key: Key | None) -> Iterator[None]:
        """Count a request for the duration of the block.

        Raises:
            Problem: There are too many already, of this key or in total.
        """
        name = key.name if key else _ANYONE
        if key and self._inside[name] >= self._limit_per_key:
            raise too_many_requests(
                f"{self._limit_per_key} requests with this key are in progress already",
                retry_after_s(self._expected_s()),
            )
        if self._inside.total() >= self._limit:
            after_s = retry_after_s(self._expected_s())
            problem = busy(f"{self._limit} requests are in progress already", retry_after_s=after_s)
            problem.headers["Connection"] = "close"
            raise problem
        self._inside[name] += 1
        try:
            yield
        finally:
            self._inside[name] -= 1
            if not self._inside[name]:
                del self._inside[name]
