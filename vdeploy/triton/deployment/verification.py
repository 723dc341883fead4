"""Verify a version by inference on golden clips, before it serves."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tritonclient.utils import InferenceServerException

from vdeploy.artifacts.bundle.golden import GoldenClips
from vdeploy.core.errors import RolloutError
from vdeploy.core.runtime_messages import without_source
from vdeploy.triton.client.model_control import Answer, ModelControl
from vdeploy.triton.client.retries import is_transient
from vdeploy.triton.names import (
    ENSEMBLE_MODEL,
    FEATURES,
    FRAMES,
    PROBABILITIES,
    STREAM_MODEL,
    WINDOW,
    WINDOW_MODEL,
)
from vdeploy.triton.repository.model_set import PLAIN, ModelSet

__all__ = ["FIRST_LOOK_SECONDS", "Verification", "ask_ensemble", "verify_ensembles", "verify_stages"]

FIRST_LOOK_SECONDS = 5.0
"""How long a version that should be serving may take to answer before it is given up or loaded again."""
POLL_SECONDS = 0.1

Array = npt.NDArray[np.float32]
Clip = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Verification:
    """A version has answered the golden clips as it should.

    Attributes:
        version: The version.
        clips: How many clips.
        deviation: The largest difference of a probability from the expected one.
        tolerance: How large it may be.
        milliseconds: Time for one clip, one after the other.
        source: Where the clips come from.
    """

    version: int
    clips: int
    deviation: float
    tolerance: float
    milliseconds: float
    source: str


def verify_stages(
    control: ModelControl, version: int, golden: GoldenClips, timeout_seconds: float, model_set: ModelSet = PLAIN
) -> Verification:
    """Sends the golden clips through a version of the stages, past the ensembles, so that no client sees it.

    Raises:
        RolloutError: An answer is wrong, or there was none within `timeout_seconds`.
    """
    extractor, classifier = model_set.stages[:2]

    def classified(features: Array) -> Array:
        return control.infer(classifier, (FEATURES, features), PROBABILITIES, version).output

    def run(clip: Clip) -> Array:
        features = control.infer(extractor, (FRAMES, clip), FEATURES, version).output
        if model_set.keeps_streams and model_set.window_input == FEATURES:
            features = control.infer_stream(WINDOW_MODEL, (FEATURES, features), WINDOW, version).output
        return classified(features)

    def run_stream(clip: Clip) -> Array:
        return classified(control.infer_stream(WINDOW_MODEL, (FRAMES, clip), WINDOW, version).output)

    if model_set.window_input == FRAMES:
        _prove(version, golden, run_stream, timeout_seconds)
    return _prove(version, golden, run, timeout_seconds)


def verify_ensembles(
    control: ModelControl, version: int, golden: GoldenClips, timeout_seconds: float, model_set: ModelSet = PLAIN
) -> Verification:
    """Sends the golden clips the way that clients do; where the server keeps streams, also as streams of one window.

    Raises:
        RolloutError: An answer is wrong, or another version's, or there was none within `timeout_seconds`.
    """

    def checked(answer: Answer) -> Array:
        if answer.version != version:
            raise RolloutError(f"version {answer.version} answers instead of version {version}")
        return answer.output

    def run(clip: Clip) -> Array:
        return checked(control.infer(ENSEMBLE_MODEL, (FRAMES, clip), PROBABILITIES, None))

    def run_stream(clip: Clip) -> Array:
        return checked(control.infer_stream(STREAM_MODEL, (FRAMES, clip), PROBABILITIES, None))

    if model_set.keeps_streams:
        _prove(version, golden, run_stream, timeout_seconds)
    return _prove(version, golden, run, timeout_seconds)


def ask_ensemble(control: ModelControl, frames: npt.NDArray[np.uint8], timeout_seconds: float) -> Array:
    """What clients get for some clips, `uint8[N, T, H, W, 3]`, right now: `float32[N, 2]`.

    Raises:
        RolloutError: Nothing within `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds

    def run(clip: Clip) -> Array:
        return control.infer(ENSEMBLE_MODEL, (FRAMES, clip), PROBABILITIES, None).output

    return np.concatenate([_patiently(run, clip, deadline) for clip in frames])


def _prove(version: int, golden: GoldenClips, run: Callable[[Clip], Array], timeout_seconds: float) -> Verification:
    started = time.monotonic()
    deadline = started + timeout_seconds
    answers = [_patiently(run, clip, deadline) for clip in golden.frames]
    took = time.monotonic() - started
    try:
        deviation = golden.deviation(np.concatenate(answers))
    except ValueError as error:
        raise RolloutError(f"version {version} answers the golden clips with {error}") from error
    if deviation > golden.tolerance:
        raise RolloutError(
            f"version {version} answers a golden clip wrongly: a probability is off by {deviation:.3g}, "
            f"and {golden.tolerance:.3g} is allowed"
        )
    return Verification(version, len(golden), deviation, golden.tolerance, 1000 * took / len(golden), golden.source)


def _patiently(run: Callable[[Clip], Array], clip: Clip, deadline: float) -> Array:
    while True:
        try:
            return run(clip[np.newaxis])
        except InferenceServerException as error:
            message = " ".join(without_source(str(error.message() or error)).split())
            if not is_transient(error):
                raise RolloutError(f"an inference fails: {message}") from error
            if time.monotonic() > deadline:
                raise RolloutError(f"an inference still fails: {message}") from error
        time.sleep(POLL_SECONDS)
