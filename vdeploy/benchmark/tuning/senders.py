"""What a load sends to a Triton: clips, or the frames of cameras."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.subjects import distinct_inputs
from vdeploy.benchmark.served.models import served_model
from vdeploy.benchmark.tuning.open_loop import DRAIN_SECONDS, Send
from vdeploy.core.errors import BenchmarkError, ClientError, UserError
from vdeploy.timeline.sliding import Sample, SlidingDetector
from vdeploy.timeline.windows import WindowPlan
from vdeploy.triton.client.channel import connect, host_and_port
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.stream_client import StreamClient
from vdeploy.triton.planning.tuned_serving import LoadKind
from vdeploy.triton.repository.options import DEFAULT_STREAMS

__all__ = ["CAMERAS", "open_sender", "refuse_load", "requests_per_clip"]

CAMERAS = DEFAULT_STREAMS
"""Cameras whose frames arrive in turn; a frame waits for the answer of the same camera's frame before it."""

_Push = Callable[[npt.NDArray[np.uint8]], object]
"""Sends `uint8[t, S, S, 3]`, the next frames of a camera."""


def refuse_load(load: LoadKind, bundle: Bundle) -> None:
    """Looks whether a bundle can be sent such a load.

    Raises:
        BenchmarkError: Its backbone looks at whole clips, and the load is of frames. Of a causal temporal shift, the
            server takes frames of streams, as long as the bundle holds its streaming form.
    """
    extractor, streamed = bundle.manifest.extractor, bundle.manifest.stream is not None
    if load == "clips" or extractor.granularity == "frame" or (load == "streams" and streamed):
        return
    raise BenchmarkError(
        f"{extractor.architecture} looks at the frames of a clip together, so that cameras are sent as whole clips",
        "leave --load out, or try --load streams" if streamed else "leave --load out",
    )


def requests_per_clip(load: LoadKind, bundle: Bundle) -> int:
    """How many requests of a load hold the frames of a clip."""
    return 1 if load == "clips" else bundle.manifest.clip_spec.frames


@contextlib.contextmanager
def open_sender(url: str, bundle: Bundle, load: LoadKind) -> Iterator[Send]:
    """Opens connections to a server, and sends requests of a load while a `with` block lasts.

    Args:
        url: `HOST:PORT` or `HOST` of Triton's gRPC interface.
        bundle: What it serves.
        load: `"clips"`: a request is a clip. `"frames"`: a request is a frame, as `vdeploy watch` sends them; where a
            window is complete, it is classified before the next frame of that camera. `"streams"`: a request is a frame
            of a stream whose window the server keeps and scores, as `vdeploy watch --server-windows` sends them.

    Raises:
        ClientError: The server does not answer, or keeps no streams.
    """
    with _of_clips(url, bundle) if load == "clips" else _of_cameras(url, bundle, load) as send:
        yield send


@contextlib.contextmanager
def _of_clips(url: str, bundle: Bundle) -> Iterator[Send]:
    model = served_model("pipeline", bundle.manifest)
    inputs = []
    for clip in distinct_inputs(bundle.manifest, "pipeline", 1):
        tensor = triton.InferInput(model.input_name, clip.shape, np_to_triton_dtype(clip.dtype))
        tensor.set_data_from_numpy(clip)
        inputs.append(tensor)
    output = triton.InferRequestedOutput(model.output_name)
    with connect(host_and_port(url)) as client:

        def send(index: int, done: Callable[[Exception | None], None]) -> None:
            def answered(result: Any, error: Exception | None) -> None:
                found = None if error else result.as_numpy(model.output_name)
                wrong = found is not None and found.shape != (1, *model.output_shape)
                done(ClientError(f"{url} answers with shape {found.shape}") if wrong and found is not None else error)

            try:
                client.async_infer(
                    model.name,
                    [inputs[index % len(inputs)]],
                    answered,
                    outputs=[output],
                    client_timeout=DRAIN_SECONDS,
                )
            except InferenceServerException as error:
                done(error)

        yield send


@contextlib.contextmanager
def _of_cameras(url: str, bundle: Bundle, load: LoadKind) -> Iterator[Send]:
    spec = bundle.manifest.clip_spec
    frames = distinct_inputs(bundle.manifest, "pipeline", 1).reshape(-1, spec.size, spec.size, 3)
    with contextlib.ExitStack() as stack:
        pushes: list[_Push] = []
        if load == "streams":
            streams = stack.enter_context(StreamClient(url, timeout_seconds=DRAIN_SECONDS))
            if streams.max_streams < CAMERAS:
                raise ClientError(
                    f"{url} keeps {streams.max_streams} streams, and the load is of {CAMERAS}",
                    f"serve with --streams {CAMERAS}",
                )
            pushes = [streams.open().push for _ in range(CAMERAS)]
        else:
            scorer = stack.enter_context(TritonScorer(url, timeout_seconds=DRAIN_SECONDS))
            pushes = [_detecting(scorer) for _ in range(CAMERAS)]
        threads = [concurrent.futures.ThreadPoolExecutor(1, f"camera-{number}") for number in range(CAMERAS)]
        for thread in threads:
            stack.callback(thread.shutdown, cancel_futures=True)

        # Cameras begin with different numbers of frames, so that their windows do not end at the same time.
        begun = [
            threads[camera].submit(pushes[camera], frames[: 1 + camera % spec.frames]) for camera in range(CAMERAS)
        ]
        for future in begun:
            future.result()

        def push(index: int, done: Callable[[Exception | None], None]) -> None:
            try:
                pushes[index % CAMERAS](frames[np.newaxis, index % len(frames)])
            except UserError as error:
                done(error)
            else:
                done(None)

        def send(index: int, done: Callable[[Exception | None], None]) -> None:
            threads[index % CAMERAS].submit(push, index, done)

        yield send


def _detecting(scorer: TritonScorer) -> _Push:
    detector: SlidingDetector[int] = SlidingDetector(scorer, WindowPlan.for_scorer(scorer, None))
    numbers = itertools.count()
    return lambda frames: detector.feed([Sample(0, next(numbers), frame) for frame in frames])
