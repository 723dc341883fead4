"""What is timed: a call of a stage, of both on frames, or of the whole on a video file. Runs in the row's process."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.clips import read_clip
from vdeploy.benchmark.job import Job
from vdeploy.bundle import Bundle, Stage
from vdeploy.export.parity import synthetic_frames
from vdeploy.runtimes.local import LocalScorer
from vdeploy.runtimes.open import open_artifact

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.scoring import Scorer

__all__ = ["DISTINCT_INPUTS", "Call", "Subject", "open_subject"]

DISTINCT_INPUTS = 4
"""Calls go through so many different inputs, so that no cache of answers is measured."""

Call = Callable[[int], dict[str, float]]
"""Takes how many calls there were before, which chooses the input. Returns the seconds of each part, as the fields of
`vdeploy.benchmark.record.Shares`; nothing where there are no parts."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something to time.

    Attributes:
        call: Does it once.
        scorer: What judges clips, where frames go in and probabilities come out.
    """

    call: Call
    scorer: Scorer | None = None


@contextlib.contextmanager
def open_subject(job: Job) -> Iterator[Subject]:
    """Loads what a job needs and makes its inputs.

    Raises:
        UserError: The bundle does not hold it, or it cannot run here.
    """
    bundle = Bundle(Path(job.bundle))
    if job.what in ("extractor", "classifier"):
        yield Subject(_stage_call(job, job.what, bundle))
    elif job.url is None:
        local = LocalScorer(bundle, job.format, job.threads, job.runtime)
        yield Subject(_pipeline_call(local, job) if job.what == "pipeline" else _local_video_call(local, job), local)
    else:
        from vdeploy.triton.client import TritonScorer  # noqa: PLC0415  only with a server

        with TritonScorer(job.url) as served:
            yield Subject(
                _pipeline_call(served, job) if job.what == "pipeline" else _served_video_call(served, job), served
            )


def _stage_call(job: Job, stage: Stage, bundle: Bundle) -> Call:
    runtime = open_artifact(bundle, stage, job.format, job.threads, job.runtime)
    spec, dim = bundle.manifest.clip_spec, bundle.manifest.extractor.dim
    if stage == "extractor":
        name, clips = "frames", synthetic_frames(DISTINCT_INPUTS, spec.frames, spec.size)
    else:
        normal = np.random.default_rng(0).standard_normal((DISTINCT_INPUTS, spec.frames, dim), np.float32)
        name, clips = "features", np.maximum(normal, 0)
    inputs = _batches(clips, job.batch)

    def call(index: int) -> dict[str, float]:
        runtime.infer({name: inputs[index % DISTINCT_INPUTS]})
        return {}

    return call


def _pipeline_call(scorer: Scorer, job: Job) -> Call:
    inputs = _batches(synthetic_frames(DISTINCT_INPUTS, scorer.spec.frames, scorer.spec.size), job.batch)

    def call(index: int) -> dict[str, float]:
        scorer.score(inputs[index % DISTINCT_INPUTS])
        return {}

    return call


def _local_video_call(scorer: LocalScorer, job: Job) -> Call:
    def call(index: int) -> dict[str, float]:
        marks = [time.perf_counter()]
        frames = read_clip(Path(job.videos[index % len(job.videos)]), scorer.spec).frames
        marks.append(time.perf_counter())
        features = scorer.extract(frames[np.newaxis])
        marks.append(time.perf_counter())
        scorer.classify(features)
        marks.append(time.perf_counter())
        return dict(zip(("decode", "extract", "classify"), np.diff(marks).tolist(), strict=True))

    return call


def _served_video_call(scorer: Scorer, job: Job) -> Call:
    def call(index: int) -> dict[str, float]:
        started = time.perf_counter()
        frames = read_clip(Path(job.videos[index % len(job.videos)]), scorer.spec).frames
        decoded = time.perf_counter()
        scorer.score(frames[np.newaxis])
        return {"decode": decoded - started, "transport": time.perf_counter() - decoded}

    return call


def _batches(clips: npt.NDArray[Any], batch: int) -> npt.NDArray[Any]:
    """As many batches as there are clips, each beginning with another one: ``[clips, batch, ...]``."""
    batches: npt.NDArray[Any] = clips[(np.arange(len(clips))[:, np.newaxis] + np.arange(batch)) % len(clips)]
    return batches
