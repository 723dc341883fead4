"""What is timed: a call of a stage, of both on frames, or of the whole on a video file. Runs in the row's process."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.bundle import Bundle, Manifest, Stage
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.record import What
from vdeploy.benchmark.served.statistics import Counts
from vdeploy.export.verification.parity import synthetic_frames
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.runtimes.registry import open_artifact
from vdeploy.video.clips import read_clip

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.scorer import Scorer

__all__ = ["DISTINCT_INPUTS", "Call", "Subject", "distinct_inputs", "open_subject"]

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
        others: What further callers do at the same time.
        counts: What the server has counted until now, by stage.
    """

    call: Call
    scorer: Scorer | None = None
    others: tuple[Call, ...] = ()
    counts: Callable[[], Counts] = dict


@contextlib.contextmanager
def open_subject(job: Job) -> Iterator[Subject]:
    """Loads what a job needs and makes its inputs.

    Raises:
        UserError: The bundle does not hold it, or it cannot run here.
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


def _stage_call(job: Job, stage: Stage, bundle: Bundle) -> Call:
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


def distinct_inputs(manifest: Manifest, what: What, batch: int) -> npt.NDArray[Any]:
    """As many different batches as calls go through, each beginning with another clip.

    Args:
        manifest: Says what clips and features look like.
        what: The classifier takes features, all others frames.
        batch: Clips a call.

    Returns:
        ``[DISTINCT_INPUTS, batch, ...]``: ``uint8`` frames, or ``float32`` features.
    """
    spec, clips = manifest.clip_spec, np.arange(DISTINCT_INPUTS)
    inputs: npt.NDArray[Any]
    if what == "classifier":
        shape = (DISTINCT_INPUTS, spec.frames, manifest.extractor.dim)
        inputs = np.maximum(np.random.default_rng(0).standard_normal(shape, np.float32), 0)
    else:
        inputs = synthetic_frames(DISTINCT_INPUTS, spec.frames, spec.size)
    chosen: npt.NDArray[Any] = inputs[(clips[:, np.newaxis] + np.arange(batch)) % DISTINCT_INPUTS]
    return chosen
