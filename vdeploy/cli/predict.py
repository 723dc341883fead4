"""`vdeploy predict`: score videos."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.event_options import EventOptions, print_events
from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import JsonOption, ScorerOptions, print_json, print_table

if TYPE_CHECKING:
    from vdeploy.detector import Prediction
    from vdeploy.inference.scorer import BundleScorer, Scorer, StagedScorer
    from vdeploy.timeline.files import TimelineFiles


@expand_groups
def predict(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Files, folders or glob patterns.")],
    *,
    where: ScorerOptions,
    timeline: Annotated[
        Path | None, typer.Option(help="Score windows that slide over the video, and write them as JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the timeline: a .png, .svg or .pdf file.")] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder to write a clip of each event to.")] = None,
    events: EventOptions,
    json: JsonOption = False,
) -> None:
    """Score videos, in this process (--bundle) or on a server (--url).

    A video is scored as one short clip. With --timeline, --plot, --clips, --window, --stride, --threshold or --leave,
    windows slide over it, and the events in it are listed.
    """
    from vdeploy.detector import find_videos  # noqa: PLC0415  keeps --help fast
    from vdeploy.timeline.files import TimelineFiles  # noqa: PLC0415  keeps --help fast

    left_out: dict[str, str] = {}
    paths = find_videos(videos, leave_out=lambda file, reason: left_out.update({str(file): reason}))
    _report_left_out(left_out)
    files = TimelineFiles(timeline, plot, clips)
    with where.open() as scorer:
        if events.given or files != TimelineFiles():
            succeeded = _predict_events(paths, scorer, events, files, left_out, json=json)
        else:
            succeeded = _predict_clips(paths, scorer, left_out, json=json)
        if where.url is not None:
            _report_replacement(where, scorer)
    if not succeeded:
        raise typer.Exit(1)


def _report_replacement(where: ScorerOptions, scorer: BundleScorer) -> None:
    """Warns where the server has got another model than the one whose threshold was read."""
    from vdeploy.core.errors import UserError  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast

    with contextlib.suppress(UserError), where.newest() as newest:
        if newest.bundle_digest != scorer.bundle_digest:
            say(
                f"warning: {where.url} got another model meanwhile, so that scores and threshold may belong to "
                "different ones; predict again"
            )


def _report_left_out(left_out: Mapping[str, str]) -> None:
    """Names the files of a folder whose suffixes are unknown."""
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast

    if left_out:
        say(f"{len(left_out)} {'file is' if len(left_out) == 1 else 'files are'} left out:")
    for path, reason in left_out.items():
        say(f"  {path} {reason}")


def _predict_clips(paths: Sequence[Path], scorer: Scorer, left_out: Mapping[str, str], *, json: bool) -> bool:
    """Scores each video as one clip; returns whether any could be read."""
    from vdeploy.core.progress import track  # noqa: PLC0415  keeps --help fast
    from vdeploy.detector import predict_videos  # noqa: PLC0415  keeps --help fast

    predictions: list[Prediction] = []
    with track("predict", len(paths), "clips") as step:
        for prediction in predict_videos(paths, scorer):
            predictions.append(prediction)
            step.advance()
    if json:
        print_json(
            {
                "classes": list(scorer.classes),
                "threshold": scorer.threshold,
                "predictions": [dataclasses.asdict(prediction) for prediction in predictions],
                "left_out": dict(left_out),
            }
        )
    else:
        rows = []
        for item in predictions:
            verdict = "cannot be read" if item.violent is None else scorer.classes[item.violent]
            probability = None if item.probability is None else f"{item.probability:.4f}"
            rows.append((item.path, probability, verdict, item.error or "; ".join(item.warnings)))
        print_table(("clip", "violent", "verdict", "remark"), rows)
    return any(prediction.error is None for prediction in predictions)


def _predict_events(
    paths: Sequence[Path],
    scorer: StagedScorer,
    options: EventOptions,
    files: TimelineFiles,
    left_out: Mapping[str, str],
    *,
    json: bool,
) -> bool:
    """Scores sliding windows of each video and writes the files; returns whether any video could be read."""
    from vdeploy.core.errors import ClipError  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.locks import output_locks  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say, track  # noqa: PLC0415  keeps --help fast
    from vdeploy.detector import detect_all  # noqa: PLC0415  keeps --help fast

    rule = options.rule(scorer.threshold)
    files.check(len(paths))
    seen_s = dict.fromkeys(paths, 0.0)
    with output_locks(files.timeline, files.plot, files.clips, remedy="choose other files and another --clips"):
        with track("detect", None, "seconds of video") as step:

            def notice(path: Path, end_s: float) -> None:
                step.advance(round(end_s - seen_s[path], 3), path.name)
                seen_s[path] = end_s

            found = dict(
                detect_all(paths, scorer, window_s=options.window, stride_s=options.stride, rule=rule, notice=notice)
            )
        failed = {path: outcome for path in paths if isinstance(outcome := found[path], ClipError)}
        timelines = {path: outcome for path in paths if not isinstance(outcome := found[path], ClipError)}
        for path, result in timelines.items():
            for file in files.write(path, result):
                say(f"wrote {file}")
    if json:
        print_json(
            {
                "timelines": [result.to_dict() for result in timelines.values()],
                "failed": {str(path): error.reason for path, error in failed.items()},
                "left_out": dict(left_out),
            }
        )
    else:
        print_events(timelines, failed)
    return bool(timelines) or not failed
