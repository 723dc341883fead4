"""Callers of a Triton server, over gRPC or shared memory; they run in the process of the row.

Each caller has its own connection. Inputs are prepared before the clock starts, as they are for rows in process: as
tensors to send, or in memory that the server has mapped. ``perf_analyzer`` does the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.subjects import Call, Subject, distinct_inputs
from vdeploy.benchmark.served.models import ServedModel, served_model
from vdeploy.benchmark.served.regions import ClientRegion, release_dead_regions
from vdeploy.benchmark.served.statistics import Counts, read_counts
from vdeploy.core.errors import ClientError
from vdeploy.triton.client.client import TritonScorer

__all__ = ["Caller", "open_callers", "open_served"]

Caller = Callable[[int], npt.NDArray[np.float32]]
"""Takes the number of earlier calls, which chooses the input, and returns the server's answer."""

_TIMEOUT_SECONDS = 120.0

_ANSWER_BYTES = np.dtype(np.float32).itemsize


@contextlib.contextmanager
def open_served(job: Job, bundle: Bundle) -> Iterator[Subject]:
    """Opens the subject of a served row.

    Args:
        job: What to call, and how; its `url` is that of the server.
        bundle: The bundle that the server serves.

    Raises:
        ClientError: The server does not answer, does not accept the batch, or does not accept shared memory.
    """
    url, model = str(job.url), served_model(job.what, bundle.manifest)
    with TritonScorer(url) as scorer, triton.InferenceServerClient(url) as client:
        if job.batch > scorer.max_batch_size:
            raise ClientError(
                f"{url} takes {scorer.max_batch_size} clips a request, not {job.batch}",
                f"serve with --max-batch {job.batch}",
            )
        with open_callers(job, bundle) as callers:
            first, *others = map(_as_call, callers)
            yield Subject(first, scorer if job.what == "pipeline" else None, tuple(others), _counter(client, model))


@contextlib.contextmanager
def open_callers(job: Job, bundle: Bundle) -> Iterator[list[Caller]]:
    """Connects the callers of a job.

    Args:
        job: What to call, and how; its `url` is that of the server.
        bundle: The bundle that the server serves.

    Raises:
        ClientError: The server does not answer, or does not accept shared memory.
    """
    url, model = str(job.url), served_model(job.what, bundle.manifest)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(triton.InferenceServerClient(url)) for _ in range(job.concurrency)]
        batches = distinct_inputs(bundle.manifest, job.what, job.batch)
        if job.transport == "shared memory":
            release_dead_regions(url)
            region = stack.enter_context(ClientRegion(clients[0], url, _region_bytes(batches, model, len(clients))))
            yield _through_memory(url, model, clients, batches, region)
        else:
            yield [_over_grpc(url, model, client, batches) for client in clients]


def _as_call(caller: Caller) -> Call:
    def call(index: int) -> dict[str, float]:
        caller(index)
        return {}

    return call


def _over_grpc(url: str, model: ServedModel, client: triton.InferenceServerClient, batches: npt.NDArray[Any]) -> Caller:
    inputs = []
    for batch in batches:
        tensor = _input(model, batch)
        tensor.set_data_from_numpy(batch)
        inputs.append(tensor)
    expected = (batches.shape[1], *model.output_shape)
    output = triton.InferRequestedOutput(model.output_name)

    def answer(index: int) -> npt.NDArray[np.float32]:
        found = _infer(url, model, client, inputs[index % len(inputs)], output).as_numpy(model.output_name)
        _check(url, model, None if found is None else found.shape, expected)
        return np.asarray(found, np.float32)

    return answer


def _through_memory(
    url: str,
    model: ServedModel,
    clients: list[triton.InferenceServerClient],
    batches: npt.NDArray[Any],
    region: ClientRegion,
) -> list[Caller]:
    """The region begins with the inputs, which all callers share; the answer of each caller follows."""
    region.array(batches.shape, batches.dtype)[:] = batches
    inputs, size = [], batches[0].nbytes
    for index, batch in enumerate(batches):
        tensor = _input(model, batch)
        tensor.set_shared_memory(region.name, size, index * size)
        inputs.append(tensor)
    expected = (batches.shape[1], *model.output_shape)
    answer_bytes = _ANSWER_BYTES * math.prod(expected)

    def caller(client: triton.InferenceServerClient, offset: int) -> Caller:
        output = triton.InferRequestedOutput(model.output_name)
        output.set_shared_memory(region.name, answer_bytes, offset)

        def answer(index: int) -> npt.NDArray[np.float32]:
            reported = _infer(url, model, client, inputs[index % len(inputs)], output).get_output(model.output_name)
            _check(url, model, None if reported is None else tuple(reported.shape), expected)
            return np.array(region.array(expected, np.float32, offset))

        return answer

    return [caller(client, batches.nbytes + index * answer_bytes) for index, client in enumerate(clients)]


def _region_bytes(batches: npt.NDArray[Any], model: ServedModel, callers: int) -> int:
    answers: int = callers * _ANSWER_BYTES * batches.shape[1] * math.prod(model.output_shape)
    return answers + batches.nbytes


def _input(model: ServedModel, batch: npt.NDArray[Any]) -> triton.InferInput:
    return triton.InferInput(model.input_name, batch.shape, np_to_triton_dtype(batch.dtype))


def _infer(url: str, model: ServedModel, client: triton.InferenceServerClient, tensor: Any, output: Any) -> Any:
    try:
        return client.infer(model.name, [tensor], outputs=[output], client_timeout=_TIMEOUT_SECONDS)
    except triton.InferenceServerException as error:
        raise ClientError(
            f"{url} did not answer for {model.name} ({error.message()})", "look at the server's log"
        ) from error


def _check(url: str, model: ServedModel, found: tuple[int, ...] | None, expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ClientError(
            f"{model.name} of {url} answers with shape {found}, not {expected}", "serve the bundle that is measured"
        )


def _counter(client: triton.InferenceServerClient, model: ServedModel) -> Any:
    """Returns a function that reads the server's counters; they are empty where the server does not publish them."""
    try:
        read_counts(client, model.stages)
    except triton.InferenceServerException:
        return dict

    def counts() -> Counts:
        return read_counts(client, model.stages)

    return counts
