"""Videos in, verdicts and timelines out, over any scorer: a bundle in this process or a Triton server.

Imports with numpy, opencv and, for a server, tritonclient alone.
"""

from __future__ import annotations

import dataclasses
import glob
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import ClipError, UserError
from vdeploy.dataset.layout import VIDEO_SUFFIXES, unknown_suffix
from vdeploy.timeline.decoding import EndOfVideo, sample_videos
from vdeploy.timeline.sliding import Sample, ScoredWindow, SlidingDetector
from vdeploy.timeline.timeline import EventRule, Timeline, Window, find_events
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.workers.clips import decode_clips

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.scorer import Scorer, StagedScorer

__all__ = ["Prediction", "detect", "detect_all", "find_videos", "predict_videos"]

_SHORT_SHARE = 0.98
"""A video that ends before this share of what its header promises is incomplete."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What became of one video.

    Attributes:
        path: The file.
        probability: Probability that it shows violence; ``None`` if it could not be judged.
        violent: Whether that reaches the threshold.
        error: Why it could not be judged.
        warnings: What is odd about the file.
        milliseconds: Time to score it, decoding not included.
    """

    path: str
    probability: float | None
    violent: bool | None
    error: str | None
    warnings: tuple[str, ...]
    milliseconds: float | None


def find_videos(sources: Sequence[str], *, leave_out: Callable[[Path, str], object] | None = None) -> list[Path]:
    """Resolves files, folders (searched for videos) and glob patterns.

    Args:
        sources: What the user typed.
        leave_out: Called with each file of a folder whose suffix is unknown, and with the reason why it is left out.

    Returns:
        Paths in the order given, each once.

    Raises:
        UserError: Something does not exist or holds no video.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
            for file in files:
                if leave_out and (reason := unknown_suffix(file.name)):
                    leave_out(file, reason)
            if not videos:
                raise UserError(
                    f"the folder {source} holds no video", f"known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}"
                )
        elif path.exists():
            videos = [path]
        else:
            videos = sorted(Path(match) for match in glob.glob(source, recursive=True))  # noqa: PTH207  absolute patterns too
            if not videos:
                raise UserError(f"there is no file, folder or match for {source}", "check the path")
        found.update(dict.fromkeys(videos))
    return list(found)


def predict_videos(paths: Iterable[Path], scorer: Scorer) -> Iterator[Prediction]:
    """Judges videos one by one while the next ones are being decoded.

    Args:
        paths: Video files.
        scorer: What turns frames into probabilities.

    Yields:
        A prediction for each path, in order; a file that cannot be read is answered with its error.
    """
    for path, outcome in decode_clips(paths, scorer.spec):
        if isinstance(outcome, ClipError):
            yield Prediction(str(path), None, None, outcome.reason, (), None)
            continue
        started = time.perf_counter()
        probability = float(scorer.score(outcome.frames[np.newaxis])[0, 1])
        yield Prediction(
            path=str(path),
            probability=probability,
            violent=probability >= scorer.threshold,
            error=None,
            warnings=outcome.warnings,
            milliseconds=(time.perf_counter() - started) * 1000,
        )


def detect(
    path: Path,
    scorer: StagedScorer,
    *,
    window_s: float | None = None,
    stride_s: float | None = None,
    rule: EventRule | None = None,
) -> Timeline:
    """Scores windows that slide over a video, of any length, and finds the events in it.

    Args:
        path: A video file.
        scorer: What turns frames into features and features into probabilities.
        window_s: Length of a window in seconds; left out, that of the clips that the classifier was trained on, or 2 s
            where it is not known.
        stride_s: From window to window, rounded to whole sampled frames; half a window if left out.
        rule: What makes windows events; left out, the one for the scorer's threshold.

    Returns:
        The timeline.

    Raises:
        ClipError: The file is no video, or no frame of it can be decoded.
        TimelineError: A length is not positive.
    """
    ((_, outcome),) = detect_all([path], scorer, window_s=window_s, stride_s=stride_s, rule=rule)
    if isinstance(outcome, ClipError):
        raise outcome
    return outcome


def detect_all(
    paths: Sequence[Path],
    scorer: StagedScorer,
    *,
    window_s: float | None = None,
    stride_s: float | None = None,
    rule: EventRule | None = None,
    workers: int = 2,
    notice: Callable[[Path, float], object] | None = None,
    collect: Callable[[Path, Window, npt.NDArray[np.float32]], object] | None = None,
) -> Iterator[tuple[Path, Timeline | ClipError]]:
    """Scores several videos; frames of those that are decoded at the same time share batches.

    Memory does not grow with the length of the videos, but for the windows' scores.

    Args:
        paths: Video files.
        scorer: What turns frames into features and features into probabilities.
        window_s: As for `detect`.
        stride_s: As for `detect`.
        rule: As for `detect`.
        workers: Videos that are decoded at a time.
        notice: Called with a path and how far into that video scoring has come, in seconds.
        collect: Called with a path, each of its windows, and the mean of that window's features, ``float32[F]``.

    Yields:
        Each path, when it is done, with its timeline or why there is none.

    Raises:
        TimelineError: A length is not positive.
    """
    spec = scorer.spec
    plan = WindowPlan.for_scorer(scorer, window_s, stride_s)
    rule = rule or EventRule.at(scorer.threshold)
    detector: SlidingDetector[int] = SlidingDetector(scorer, plan, keep_features=collect is not None)
    windows: dict[int, list[Window]] = {stream: [] for stream in range(len(paths))}
    batch: list[Sample[int]] = []

    def add(scored: ScoredWindow[int]) -> None:
        windows[scored.stream].append(scored.window)
        if collect and scored.features is not None:
            collect(paths[scored.stream], scored.window, scored.features)

    def flush() -> None:
        for scored in detector.feed(batch):
            add(scored)
            if notice:
                notice(paths[scored.stream], scored.window.end_s)
        batch.clear()

    for item in sample_videos(paths, plan, spec.size, fit=spec.fit, workers=workers, ahead=4 * spec.frames):
        if isinstance(item, Sample):
            batch.append(item)
            if len(batch) == spec.frames:
                flush()
            continue
        flush()
        for scored in detector.finish(item.stream, item.duration_s):
            add(scored)
        found = tuple(windows.pop(item.stream))
        yield (
            paths[item.stream],
            item.error
            or Timeline(
                source=str(paths[item.stream]),
                duration_s=round(item.duration_s, 6),
                window_s=plan.window_s,
                stride_s=plan.stride_s,
                sampled_fps=plan.sampled_fps,
                rule=rule,
                windows=found,
                events=find_events(found, rule),
                warnings=tuple(_remarks(item, plan, assumed=window_s is None and scorer.clip_seconds is None)),
            ),
        )


def _remarks(end: EndOfVideo, plan: WindowPlan, *, assumed: bool) -> Iterator[str]:
    yield from end.warnings
    if assumed:
        yield f"the model's training clips are taken to last {plan.window_s:g} s"
    if end.duration_s < plan.window_s - 0.5 / plan.sampled_fps:
        yield f"it lasts {end.duration_s:.2f} s, less than a window of {plan.window_s:g} s"
    if end.duration_s < _SHORT_SHARE * end.expected_s:
        yield f"only {end.duration_s:.1f} s of the {end.expected_s:.1f} s that its header promises can be decoded"
