"""Opens the workload of a row in the row's process: a stage, both stages on frames, or the whole on a video file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vdeploy.artifacts.bundle import Bundle, Manifest
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.subjects import DISTINCT_INPUTS, Call, Subject, distinct_inputs
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.runtimes.registry import open_artifact
from vdeploy.video.workers.clips import decode_clip

if TYPE_CHECKING:
    from vdeploy.inference.scorer import Scorer

__all__ = ["open_subject"]


@contextlib.contextmanager
def open_subject(job: Job) -> Iterator[Subject]:
    """Loads the artifacts of a job, or connects to its server, and makes its inputs.

    Args:
        job: What to measure.

    Raises:
        UserError: The bundle lacks an artifact, or it cannot run on this machine.
    """
    bundle = Bundle(Path(job.bundle))
    if job.url is not None and job.what != "video":
        from vdeploy.benchmark.served.callers import open_served  # noqa: PLC0415  only with a server

        with open_served(job, bundle) as subject:
            yield subject
    elif job.what in ("extractor", "classifier"):
        yield Subject(_stage_call(job, job.what, bundle))
    elif job.url is None:
        local = LocalScorer(bundle, job.format, job.threads, job.runtime)
        pipeline = job.what == "pipeline"
        call = _pipeline_call(local, job, bundle.manifest) if pipeline else _local_video_call(local, job)
        yield Subject(call, local)
    else:
        from vdeploy.triton.client.client import TritonScorer  # noqa: PLC0415  only with a server

        with TritonScorer(job.url) as served:
            yield Subject(_served_video_call(served, job), served)


def _stage_call(job: Job, stage: Literal["extractor", "classifier"], bundle: Bundle) -> Call:
    runtime = open_artifact(bundle, stage, job.format, job.threads, job.runtime)
    name = "frames" if stage == "extractor" else "features"
    inputs = distinct_inputs(bundle.manifest, stage, job.batch)

    def call(index: int) -> dict[str, float]:
        runtime.infer({name: inputs[index % DISTINCT_INPUTS]})
        return {}

    return call


def _pipeline_call(scorer: Scorer, job: Job, manifest: Manifest) -> Call:
    inputs = distinct_inputs(manifest, "pipeline", job.batch)

    def call(index: int) -> dict[str, float]:
        scorer.score(inputs[index % DISTINCT_INPUTS])
        return {}

    return call


def _local_video_call(scorer: LocalScorer, job: Job) -> Call:
    def call(index: int) -> dict[str, float]:
        marks = [time.perf_counter()]
        frames = decode_clip(Path(job.videos[index % len(job.videos)]), scorer.spec).frames
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
        frames = decode_clip(Path(job.videos[index % len(job.videos)]), scorer.spec).frames
        decoded = time.perf_counter()
        scorer.score(frames[np.newaxis])
        return {"decode": decoded - started, "transport": time.perf_counter() - decoded}

    return call
