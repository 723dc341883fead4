"""A stream whose window of features a Triton server keeps: frames are sent one by one, and scored."""

from __future__ import annotations

import collections
import contextlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

from vdeploy.core.errors import ClientError
from vdeploy.core.progress import say
from vdeploy.inference.scorer import StreamScore
from vdeploy.triton.client.channel import Connection
from vdeploy.triton.names import FEATURES, FRAMES, HELD, MISSING, PROBABILITIES, STREAM_MODEL, WINDOW_MODEL
from vdeploy.video.clips import ClipSpec

__all__ = ["Stream", "new_stream_id"]

CLOSE_TIMEOUT_SECONDS = 2.0

_LOST = "is not known here"
"""What `vdeploy.triton.backend_code.window_model` says of a stream that it does not keep, or no longer."""

_OFTEN = 3
"""So many times in a row, a server that has lost a stream is worth a word."""

_Step = tuple[npt.NDArray[np.uint8], int]
"""A frame, and how many are missing before it."""


def new_stream_id() -> int:
    """A correlation id that no other stream has: 63 random bits, and never 0, which means none."""
    return secrets.randbits(63) or 1


class Stream(Connection):
    """A stream on a server of `vdeploy serve --streams`, made by `StreamClient.open`.

    It holds its last T frames and those that they depend on, and where the server has lost it, starts it again with
    them, so that the next score is what it would have been. Servers lose streams when a stage dies, when another
    version takes over, and when a stream sends nothing for long. Not for several threads at a time; several streams
    may each have one.

    Args:
        address: `HOST:PORT` of Triton's gRPC interface.
        spec: The frames that the server expects.
        dim: Features of a frame.
        past: How many frames before a frame its features depend on, where the server is causal.
        timeout_seconds: How long one request may take.
        explain: Makes a `ClientError` of a `tritonclient.utils.InferenceServerException` and the model's name.
        on_close: Is called when the stream has been closed.

    Attributes:
        restarts: How often it was started again because the server had lost it.
    """

    def __init__(
        self,
        address: str,
        spec: ClipSpec,
        dim: int,
        past: int,
        timeout_seconds: float,
        explain: Callable[[Any, str], ClientError],
        on_close: Callable[[Stream], object] = lambda _: None,
    ) -> None:
        self._address, self._spec, self._dim, self._past = address, spec, dim, past
        self._timeout, self._explain, self._on_close = timeout_seconds, explain, on_close
        super().__init__(address)
        self._recent: collections.deque[_Step] = collections.deque(maxlen=spec.frames + past)
        self._id = new_stream_id()
        self._is_live, self._version = False, ""
        self._lost_in_a_row = self.restarts = 0

    def push(
        self, frames: npt.NDArray[np.uint8], missing: Sequence[int] | None = None, *, last: bool = False
    ) -> StreamScore:
        """Sends the next frames, and has the window scored that ends with the last of them.

        After an error the frames count as sent: the next call starts the stream again with them.

        Args:
            frames: RGB, `uint8[S, S, 3]`, or `uint8[t, S, S, 3]` with t from 1 to T.
            missing: Frames that were left out before each frame, for which the one before them stands; `None` for none.
            last: Whether the stream ends with them; the server forgets it then.

        Returns:
            The score; until a window is full, that of the frames so far, spread over it as those of a short clip are.

        Raises:
            ClientError: The frames have another shape or type, or the server does not answer.
            CrowdedError: The server keeps as many streams as it may.
        """
        batch = frames[np.newaxis] if frames.ndim == 3 else frames
        gaps = [0] * len(batch) if missing is None else list(missing)
        wanted = (self._spec.size, self._spec.size, 3)
        fits = batch.ndim == 4 and batch.shape[1:] == wanted and 1 <= len(batch) <= self._spec.frames
        if batch.dtype != np.uint8 or not fits or len(gaps) != len(batch) or min(gaps) < 0:
            raise ClientError(
                f"frames are {frames.dtype}{list(frames.shape)} with counts {gaps} of missing ones, {self._address} "
                f"takes uint8[t, {', '.join(map(str, wanted))}], t from 1 to {self._spec.frames}, and a count for each",
                "decode the video with the server's ClipSpec",
            )
        steps = [(frame, min(count, self._spec.frames)) for frame, count in zip(batch.copy(), gaps, strict=True)]
        self._recent.extend(steps)
        try:
            return self._advance(steps, last=last)
        except triton.InferenceServerException as error:
            self._abandon()
            raise self._explain(error, STREAM_MODEL) from error

    def clear(self) -> None:
        """Starts an empty window with the next frame."""
        self._recent.clear()
        self._is_live = False

    def close(self) -> None:
        """Has the server forget the stream, where it can be reached, and closes the connection; again does nothing."""
        self._abandon()
        self._client.close()
        self._on_close(self)

    def _abandon(self) -> None:
        """Drops the stream on the server and continues under another id.

        After a failure, what was sent may still be on its way, and must not get into the window that is started again.
        """
        with contextlib.suppress(triton.InferenceServerException):
            if self._version:
                self._end()
        self._id, self._is_live, self._version = new_stream_id(), False, ""

    def _advance(self, steps: list[_Step], *, last: bool) -> StreamScore:
        if self._is_live:
            try:
                score = self._send(steps, last=last)
            except triton.InferenceServerException as error:
                if _LOST not in str(error.message()):
                    raise
                self._note_loss()
            else:
                self._lost_in_a_row = 0
                return score
        return self._send(list(self._recent), start=True, last=last)

    def _note_loss(self) -> None:
        """A stream that is unknown somewhere continues under another id, as it may still be known elsewhere."""
        self._id, self._version = new_stream_id(), ""
        self.restarts += 1
        self._lost_in_a_row += 1
        if self._lost_in_a_row == _OFTEN:
            say(
                f"stream: {self._address} loses it between frames; it keeps streams for a while only, and each Triton "
                "its own: do not send them through a load balancer"
            )

    def _send(self, steps: list[_Step], *, last: bool, start: bool = False) -> StreamScore:
        frames = np.stack([frame for frame, _ in steps])[np.newaxis]
        missing = np.array([[count for _, count in steps]], np.int32)
        result = self._infer(STREAM_MODEL, {FRAMES: frames, MISSING: missing}, start=start, end=last)
        version = str(result.get_response().model_version)
        probabilities, held = result.as_numpy(PROBABILITIES), result.as_numpy(HELD)
        if probabilities is None or held is None or probabilities.shape != (1, 2):
            raise ClientError(f"{self._address} answered without a score", "look at the server's log")
        self._is_live, self._version = not last, "" if last else version
        if last:
            self._recent.clear()
        return StreamScore(float(probabilities[0, 1]), int(held.ravel()[0]), self._spec.frames, int(version))

    def _end(self) -> None:
        """Ends the stream past the extractor, which need not look at a frame for that, unless it is causal."""
        frame = np.zeros((1, 1, self._spec.size, self._spec.size, 3), np.uint8)
        features = np.zeros((1, 1, self._dim), np.float32)
        nothing: dict[str, npt.NDArray[Any]] = {FRAMES: frame} if self._past else {FEATURES: features}
        nothing[MISSING] = np.zeros((1, 1), np.int32)
        self._infer(WINDOW_MODEL, nothing, end=True, version=self._version, timeout_seconds=CLOSE_TIMEOUT_SECONDS)

    def _infer(
        self,
        model: str,
        inputs: dict[str, npt.NDArray[Any]],
        *,
        start: bool = False,
        end: bool = False,
        version: str = "",
        timeout_seconds: float | None = None,
    ) -> Any:
        tensors = []
        for name, array in inputs.items():
            tensors.append(triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
            tensors[-1].set_data_from_numpy(array)
        return self._client.infer(
            model,
            tensors,
            model_version=version,
            sequence_id=self._id,
            sequence_start=start,
            sequence_end=end,
            client_timeout=timeout_seconds or self._timeout,
        )
