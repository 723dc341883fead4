"""Which version of the model a request gets, and how versions come and go without a request being lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator

from vdeploy.core.errors import UserError
from vdeploy.gateway.logs import log_event
from vdeploy.gateway.models import ServedModel
from vdeploy.gateway.problems import Problem

__all__ = ["Router", "share_of"]

REFRESH_SECONDS = 10


class Router:
    """Holds the model that serves and, where there is one, the canary that may take over from it.

    Used by one event loop.

    Args:
        open_primary: Opens the model that serves.
        open_canary: Opens the one that gets a share of the requests.
        percent: Requests of a hundred that the canary gets at first.
        changes: Whether what is opened may change while the gateway runs, as a server's model does.

    Attributes:
        primary: The model that serves.
        canary: The one that gets a share.
        percent: Requests of a hundred that the canary gets.

    Raises:
        UserError: A model cannot be opened.
    """

    def __init__(
        self,
        open_primary: Callable[[], ServedModel],
        open_canary: Callable[[], ServedModel] | None = None,
        *,
        percent: float = 0.0,
        changes: bool = False,
    ) -> None:
        self._open = open_primary
        self._open_canary = open_canary
        self._changes = changes
        self._retired: set[ServedModel] = set()
        self.primary = open_primary()
        try:
            self.canary = open_canary() if open_canary else None
        except BaseException:
            self.primary.close()
            raise
        self.percent = percent

    def shift(self, percent: float) -> None:
        """Gives the canary another share of the requests.

        Args:
            percent: 0 to 100.

        Raises:
            Problem: There is no canary.
        """
        if self.canary is None:
            raise Problem(
                409, "no_canary", "this gateway has no canary", "start it with --canary-bundle or --canary-url"
            )
        self.percent = percent
        log_event("canary_shifted", percent=percent, version=self.canary.version)

    @contextlib.contextmanager
    def lease(self, request_id: str) -> Iterator[ServedModel]:
        """The model for a request; it stays open until the block ends. The same id gets the same model.

        Args:
            request_id: Of the request.
        """
        canary = self.canary
        model = canary if canary is not None and share_of(request_id) * 100 < self.percent else self.primary
        with self._held(model):
            yield model

    async def check(self) -> None:
        """Makes sure that every model that gets requests answers.

        Raises:
            Problem: One does not.
        """
        wanted = [self.primary] if self.percent < 100 or self.canary is None else []
        if self.canary is not None and self.percent > 0:
            wanted.append(self.canary)
        for model in wanted:
            with self._held(model):
                await model.check()

    async def refresh(self) -> None:
        """Takes over what the servers serve now, where that has changed or a model has failed."""
        self.primary = await self._fresh(self.primary, self._open)
        if self.canary is not None and self._open_canary is not None:
            self.canary = await self._fresh(self.canary, self._open_canary)
        self._close_unused()

    async def keep_fresh(self) -> None:
        """Refreshes from time to time, and soon after a failure; to be cancelled."""
        while self._changes:
            for _ in range(REFRESH_SECONDS):
                await asyncio.sleep(1)
                if self.primary.failed or (self.canary is not None and self.canary.failed):
                    break
            await self.refresh()

    async def _fresh(self, model: ServedModel, opening: Callable[[], ServedModel]) -> ServedModel:
        try:
            fresh = await asyncio.to_thread(opening)
        except UserError as error:
            log_event("model_failed", level=logging.WARNING, reason=str(error))
            return model
        if fresh.version == model.version and not model.failed:
            await asyncio.to_thread(fresh.close)
            return model
        log_event("model_changed", version=fresh.version, before=model.version)
        self._retired.add(model)
        return fresh

    def close(self) -> None:
        """Closes all models."""
        for model in (self.primary, self.canary, *self._retired):
            if model is not None:
                model.close()

    @contextlib.contextmanager
    def _held(self, model: ServedModel) -> Iterator[None]:
        model.users += 1
        try:
            yield
        finally:
            model.users -= 1
            self._close_unused()

    def _close_unused(self) -> None:
        for model in [model for model in self._retired if not model.users]:
            self._retired.discard(model)
            model.close()


def share_of(request_id: str) -> float:
    """Where a request's id lies among all, from 0 to 1 and evenly."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") / 2**64
