"""Clients that send clips to a Triton while its versions change, and count right, wrong and lost answers."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import random
import sys
import threading
import time

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from vdeploy.artifacts.bundle import Bundle
from vdeploy.inference.runtimes.registry import open_artifact
from vdeploy.triton.client.retries import is_transient
from vdeploy.triton.names import ENSEMBLE_MODEL, FRAMES, PROBABILITIES

__all__ = ["FORMAT", "GIVE_UP_SECONDS", "Array", "Clients", "Tally", "answers_of"]

FORMAT = "onnx-fp32"
TOLERANCE = 1e-5
GIVE_UP_SECONDS = 60.0
RETRY_SECONDS = 0.05

Array = npt.NDArray[np.float32]


@dataclasses.dataclass
class Tally:
    """Outcomes of the requests.

    Attributes:
        answers: Right answers by bundle.
        wrong: Answers that are neither bundle's.
        failures: Failed attempts by gRPC status, each followed by another attempt.
        retried: Requests that failed at first and were answered after retries.
        lost: Requests that never were, with the reason.
        milliseconds: Time from the first attempt to the answer.
    """

    answers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: int = 0
    failures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    retried: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    milliseconds: list[float] = dataclasses.field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.answers + other.answers,
            self.wrong + other.wrong,
            self.failures + other.failures,
            self.retried + other.retried,
            self.lost + other.lost,
            self.milliseconds + other.milliseconds,
        )


def answers_of(bundles: dict[str, Bundle], clips: npt.NDArray[np.uint8]) -> dict[str, Array]:
    """Answers of each bundle, computed in this process.

    Raises:
        SystemExit: The answers could be mistaken for each other, or for those of one's extractor before the other's
            classifier; then the test would show nothing.
    """
    runtimes = {
        name: (open_artifact(bundle, "extractor", FORMAT), open_artifact(bundle, "classifier", FORMAT))
        for name, bundle in bundles.items()
    }
    features = {name: extractor.infer({"frames": clips})["features"] for name, (extractor, _) in runtimes.items()}
    every = {
        (one, other): runtimes[other][1].infer({"features": features[one]})["probabilities"]
        for one in bundles
        for other in bundles
    }
    values = list(every.values())
    if any(np.abs(a - b).max(axis=1).min() < 10 * TOLERANCE for i, a in enumerate(values) for b in values[:i]):
        sys.exit("error: the bundles answer alike; choose another --seed")
    return {name: every[name, name] for name in bundles}


class Clients:
    """Threads that send clips until they are stopped and have sent enough; each waits for its answer."""

    def __init__(self, url: str, clips: npt.NDArray[np.uint8], expected: dict[str, Array], count: int) -> None:
        self._url = url
        self._clips = clips
        self._expected = expected
        self._stopping = threading.Event()
        self.tallies = [Tally() for _ in range(count)]
        self._threads = [threading.Thread(target=self._send, args=(tally,)) for tally in self.tallies]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def sent(self) -> int:
        """Requests that have ended."""
        return sum(len(tally.milliseconds) + len(tally.lost) for tally in self.tallies)

    def _send(self, tally: Tally) -> None:
        chooser = random.Random(id(tally))
        with contextlib.closing(triton.InferenceServerClient(self._url)) as client:
            while not self._stopping.is_set():
                self._ask(client, chooser.randrange(len(self._clips)), tally)

    def _ask(self, client: triton.InferenceServerClient, index: int, tally: Tally) -> None:
        clip = self._clips[index : index + 1]
        tensor = triton.InferInput(FRAMES, clip.shape, "UINT8")
        tensor.set_data_from_numpy(clip)
        started, failed = time.monotonic(), False
        while True:
            try:
                answer = client.infer(ENSEMBLE_MODEL, [tensor], client_timeout=GIVE_UP_SECONDS)
                break
            except triton.InferenceServerException as error:
                tally.failures[str(error.status()).removeprefix("StatusCode.")] += 1
                if not is_transient(error) or time.monotonic() - started > GIVE_UP_SECONDS:
                    tally.lost.append(str(error.message()))
                    return
                failed = True
                time.sleep(RETRY_SECONDS)
        tally.milliseconds.append(1000 * (time.monotonic() - started))
        tally.retried += failed
        given = answer.as_numpy(PROBABILITIES)[0]
        for name, rows in self._expected.items():
            if np.abs(rows[index] - given).max() <= TOLERANCE:
                tally.answers[name] += 1
                return
        tally.wrong += 1
