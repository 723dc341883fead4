"""One version of the model that the gateway serves, in this process or on a server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import UserError
from vdeploy.evaluation.drift import RecentScores
from vdeploy.gateway.batching import Batcher, Scored
from vdeploy.gateway.deadlines import NO_DEADLINE, Deadline
from vdeploy.gateway.logs import log_event
from vdeploy.gateway.problems import unavailable
from vdeploy.gateway.traces import NO_TRACE, Trace, Tracing
from vdeploy.inference.open_scorer import open_scorer

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.evaluation.drift import ScoreHistogram
    from vdeploy.gateway.limits import Limits
    from vdeploy.inference.scorer import StagedScorer

__all__ = ["ServedModel", "open_model"]

PROBE_AFTER_SECONDS = 30.0
PROBE_TIMEOUT_SECONDS = 20.0


class ServedModel:
    """One version of the model and the thread that runs it.

    Args:
        scorer: The model.
        version: Its name in answers.
        run: The training run that it comes from.
        batcher: The thread that runs it.
        close: Called at the end.
        reference: Scores of clips that the run did not learn from, if they are known.

    Attributes:
        scorer: The model.
        version: Its name in answers.
        run: The training run that it comes from.
        batcher: The thread that runs it.
        scores: Those that clients were given lately.
        users: Requests that use it.
        failed: Whether its last call failed.
        replaced: Set when new requests get another one.
    """

    def __init__(
        self,
        scorer: StagedScorer,
        version: str,
        run: str,
        batcher: Batcher,
        close: Callable[[], None],
        reference: ScoreHistogram | None = None,
    ) -> None:
        self.scorer = scorer
        self.version = version
        self.run = run
        self.batcher = batcher
        self.scores = RecentScores(reference)
        self.users = 0
        self.failed = False
        self.replaced = threading.Event()
        self._close = close
        self._succeeded = float("-inf")

    async def score(
        self, clip: npt.NDArray[np.uint8], deadline: Deadline = NO_DEADLINE, trace: Trace = NO_TRACE
    ) -> Scored:
        """Score a clip in a batch with those of other requests.

        Args:
            clip: ``uint8[T, S, S, 3]``.
            deadline: When its score is of no use any more.
            trace: That of its request.

        Raises:
            Problem: Too many wait, the deadline passes, or the model does not answer.
        """
        with trace.span("inference"), self.explaining():
            future = self.batcher.submit(clip, deadline, trace)
            try:
                return await asyncio.wait_for(asyncio.wrap_future(future), deadline.timeout_s)
            except asyncio.TimeoutError:
                raise deadline.exceeded() from None

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn an error of the model in the block into an answer.

        Raises:
            Problem: The model does not answer.
        """
        try:
            yield
        except UserError as error:
            self.failed = True
            log_event("model_failed", level=logging.ERROR, reason=str(error))
            raise unavailable("model_unavailable", "the model does not answer") from error
        self.failed = False
        self._succeeded = time.monotonic()

    async def check(self) -> None:
        """Return if the model answers; it is called only if it has not answered for 30 s.

        Raises:
            Problem: It does not answer.
        """
        if not self.failed and time.monotonic() - self._succeeded < PROBE_AFTER_SECONDS:
            return
        spec = self.scorer.spec
        blank = np.zeros((spec.frames, spec.size, spec.size, 3), np.uint8)
        try:
            await asyncio.wait_for(self.score(blank), PROBE_TIMEOUT_SECONDS)
        except asyncio.TimeoutError:
            raise unavailable("model_unavailable", "the model does not answer in time") from None

    def close(self) -> None:
        """Finish what is queued, and close the model."""
        self.batcher.close()
        self._close()


def open_model(
    *,
    bundle: Path | None,
    url: str | None,
    format_name: str | None = None,
    limits: Limits,
    on_batch: Callable[[int, float], None],
    tracing: Tracing | None = None,
) -> ServedModel:
    """Open a model in this process, or on a server.

    Args:
        bundle: Folder of a bundle to run in this process.
        url: ``HOST:PORT`` of a Triton server's gRPC service.
        format_name: Format of the bundle to run.
        limits: Of batches and queues.
        on_batch: Called with the clips and the seconds of each batch.
        tracing: Records batches.

    Raises:
        UserError: It does not work.
    """
    with contextlib.ExitStack() as stack:
        scorer = stack.enter_context(open_scorer(bundle=bundle, url=url, format_name=format_name))
        batcher = Batcher(scorer, batch=limits.batch, capacity=limits.queue, on_batch=on_batch, tracing=tracing)
        close = stack.pop_all().close
        return ServedModel(scorer, scorer.bundle_digest[:12], scorer.run, batcher, close, scorer.score_histogram)
