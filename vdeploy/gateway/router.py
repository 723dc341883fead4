"""Choose the model version of each request, and replace versions without losing requests."""

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
    """Holds the serving model and, where there is one, its canary.

    Used by one event loop.

    Args:
        open_primary: Opens the serving model.
        open_canary: Opens the canary.
        percent: Initial share of the requests for the canary, in percent.
        changes: Whether models may change while the gateway runs, as those of a server do.

    Attributes:
        primary: The serving model.
        canary: The new version, which gets a share of the requests.
        percent: Share of the requests for the canary, in percent.

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

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """The serving model, and the canary if there is one."""
        return (self.primary,) if self.canary is None else (self.primary, self.canary)

    def shift(self, percent: float) -> None:
        """Change the canary's share of the requests.

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
        """Choose the model of a request and keep it open for the duration of the block. Equal ids get the same model.

        Args:
            request_id: Of the request.
        """
        canary = self.canary
        model = canary if canary is not None and share_of(request_id) * 100 < self.percent else self.primary
        with self._held(model):
            yield model

    async def check(self) -> None:
        """Return if every model that gets requests answers.

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
        """Open the models again where the server's version has changed, or where one has failed."""
        self.primary = await self._fresh(self.primary, self._open)
        if self.canary is not None and self._open_canary is not None:
            self.canary = await self._fresh(self.canary, self._open_canary)
        self._close_unused()

    async def keep_fresh(self) -> None:
        """Refresh every 10 s, and within a second after a failure; to be cancelled."""
        for model in self.models:
            _say_what_is_unknown(model)
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
        if fresh.version != model.version:
            _say_what_is_unknown(fresh)
        model.replaced.set()
        self._retired.add(model)
        return fresh

    def close(self) -> None:
        """Close all models."""
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


def _say_what_is_unknown(model: ServedModel) -> None:
    if model.scores.reference is None:
        log_event("drift_unknown", version=model.version, reason="the bundle lacks the scores of 20 held-out clips")


def share_of(request_id: str) -> float:
    """Map a request id to a number in [0, 1), evenly distributed."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") / 2**64
