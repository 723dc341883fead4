"""The search for hard negatives: each video's timeline, its hardest windows, and the most diverse of all of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.methods.hard_negatives.candidates import (
    Candidate,
    keep_labelled,
    read_candidates,
    write_candidates,
)
from training.methods.hard_negatives.mined_video import MinedVideo, video_key
from training.methods.hard_negatives.page import page_template, write_page
from training.methods.hard_negatives.selection import MinedWindow, WindowPool, select_diverse
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ClipError
from vdeploy.core.locks import output_locks
from vdeploy.core.progress import Step, say, track
from vdeploy.core.text import name_problem
from vdeploy.core.write_check import refuse_unwritable
from vdeploy.detector import detect_all
from vdeploy.inference.in_process import LocalScorer
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.file_facts import read_facts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vdeploy.inference.scorer import StagedScorer
    from vdeploy.timeline.timeline import Window

__all__ = ["CANDIDATES", "Mining", "MiningRequest", "mine", "stated_durations"]

CANDIDATES = "candidates.csv"
PAGE = "candidates.html"
VIDEOS = "videos"


@dataclasses.dataclass(frozen=True)
class MiningRequest:
    """What to search, and for what.

    Attributes:
        bundle: Folder of the bundle.
        videos: Video files without violence.
        folder: Where the candidates go, and the results of finished videos.
        format_name: Which of the bundle's formats to run; its first if left out.
        count: How many candidates to keep at most.
        distance: Cosine distance of features up to which windows are alike.
        window_s: Length of a window in seconds; left out, that of the training clips.
        stride_s: From window to window in seconds; half a window if left out.
    """

    bundle: Path
    videos: Sequence[Path]
    folder: Path
    format_name: str | None = None
    count: int = 100
    distance: float = 0.1
    window_s: float | None = None
    stride_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Mining:
    """What was found.

    Attributes:
        videos: The videos that could be read, in the order given.
        failed: Why each other one could not.
        candidates: The rows of the CSV.
        threshold: The bundle's threshold.
    """

    videos: tuple[MinedVideo, ...]
    failed: dict[str, str]
    candidates: tuple[Candidate, ...]
    threshold: float

    @property
    def hours(self) -> float:
        """Hours of video that were seen."""
        return sum(video.duration_s for video in self.videos) / 3600

    @property
    def false_alarms(self) -> int:
        """Events at the bundle's threshold in all videos."""
        return sum(video.false_alarms for video in self.videos)

    @property
    def false_alarms_per_hour(self) -> float | None:
        """Events an hour of video; ``None`` if nothing was seen."""
        return self.false_alarms / self.hours if self.hours else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "threshold": self.threshold,
            "hours": self.hours,
            "false_alarms": self.false_alarms,
            "false_alarms_per_hour": self.false_alarms_per_hour,
            "videos": [
                {"path": video.path, **{name: getattr(video, name) for name in ("duration_s", "windows")}}
                | {"false_alarms": video.false_alarms, "peak": video.peak, "warnings": list(video.warnings)}
                for video in self.videos
            ],
            "candidates": [dataclasses.asdict(candidate) for candidate in self.candidates],
            "failed": self.failed,
        }


def mine(request: MiningRequest) -> Mining:
    """Runs a bundle over videos without violence and writes the windows with the highest scores for a person to judge.

    Up to ``count`` windows of each video are selected by the rule of `select_diverse`, and then, by the same rule, up
    to ``count`` of all these. Videos are scored one after the other, so that the scores of one do not depend on the
    others nor on where an interrupted search went on. The result of each finished video is kept in the folder.

    Rows of an earlier ``candidates.csv`` in the folder that have a label stay, with it.

    Raises:
        UserError: The bundle, the folder or its ``candidates.csv`` cannot be used.
    """
    refuse_unwritable(request.folder, folder=True)
    template = page_template()
    with output_locks(request.folder, remedy="choose another --out"):
        table = request.folder / CANDIDATES
        earlier = read_candidates(table) if table.exists() else []
        bundle = Bundle(request.bundle)
        scorer = LocalScorer(bundle, request.format_name)
        videos, failed = _mine_all(request, scorer, bundle.manifest.digest)
        every = (window for video in videos for window in video.hardest)
        chosen = select_diverse(every, request.count, request.distance)
        candidates = keep_labelled(map(Candidate.of, chosen), earlier)
        mining = Mining(tuple(videos), failed, tuple(candidates), scorer.threshold)
        write_page(request.folder / PAGE, template, mining.candidates, CANDIDATES)
        write_candidates(table, mining.candidates)
    return mining


def _mine_all(request: MiningRequest, scorer: StagedScorer, digest: str) -> tuple[list[MinedVideo], dict[str, str]]:
    plan = WindowPlan.for_scorer(scorer, request.window_s, request.stride_s)
    settings = {
        "bundle": digest,
        "format": request.format_name,
        "plan": dataclasses.asdict(plan),
        "count": request.count,
        "distance": request.distance,
    }
    found: dict[Path, MinedVideo] = {}
    failed: dict[str, str] = {}
    files: dict[Path, Path] = {}
    for path in request.videos:
        if problem := name_problem(str(path)):
            failed[ascii(str(path))] = problem
            continue
        try:
            files[path] = request.folder / VIDEOS / f"{video_key(path, settings)}.npz"
        except OSError as error:
            failed[str(path)] = f"cannot be read ({error.strerror})"
            continue
        if earlier := MinedVideo.load(files[path]):
            found[path] = earlier
    missing = [path for path in files if path not in found]
    if found and missing:
        say(f"{len(found)} of {len(files)} videos were searched before")
    expected_s = dict(zip(missing, stated_durations(missing), strict=True))
    known = [seconds for seconds in expected_s.values() if seconds is not None]
    with track("mine", sum(known) if len(known) == len(missing) else None, "seconds of video") as step:
        for path in missing:
            try:
                found[path] = _mine_video(path, request, scorer, step, expected_s[path])
            except ClipError as error:
                failed[str(path)] = error.reason
            else:
                found[path].save(files[path])
    return [found[path] for path in request.videos if path in found], failed


def stated_durations(paths: Sequence[Path]) -> Iterator[float | None]:
    """What the headers of videos say, in seconds; ``None`` where one says nothing, and 0 for what cannot be read."""
    for path in paths:
        try:
            yield read_facts(path, paths).seconds or None
        except ClipError:
            yield 0.0


def _mine_video(
    path: Path, request: MiningRequest, scorer: StagedScorer, step: Step, expected_s: float | None
) -> MinedVideo:
    source = os.path.abspath(path)  # noqa: PTH100  resolve() would follow links
    pool = WindowPool()
    seen_s = 0.0

    def collect(_: Path, window: Window, features: npt.NDArray[np.float32]) -> None:
        pool.add(MinedWindow(source, window.start_s, window.end_s, window.probability, features))

    def notice(_: Path, end_s: float) -> None:
        nonlocal seen_s
        step.advance(round(end_s - seen_s, 3), path.name)
        seen_s = end_s

    ((_, outcome),) = detect_all(
        [path], scorer, window_s=request.window_s, stride_s=request.stride_s, notice=notice, collect=collect
    )
    if isinstance(outcome, ClipError):
        raise outcome
    step.advance(round((expected_s or outcome.duration_s) - seen_s, 3))
    return MinedVideo(
        path=source,
        duration_s=outcome.duration_s,
        windows=len(outcome.windows),
        false_alarms=len(outcome.events),
        peak=outcome.peak_probability,
        warnings=outcome.warnings,
        hardest=tuple(select_diverse(pool.windows, request.count, request.distance)),
    )
