"""`vdeploy predict`: is this video violent, and when?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from vdeploy.cli.options import FormatOption, JsonOption, ScorerBundleOption, ScorerUrlOption, print_json, print_table
from vdeploy.cli.timelines import (
    LeaveOption,
    MergeGapOption,
    MinDurationOption,
    StrideOption,
    ThresholdOption,
    WindowOption,
    event_rule,
    predict_timelines,
)


def predict(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Files, folders or glob patterns.")],
    bundle: ScorerBundleOption = None,
    url: ScorerUrlOption = None,
    format_name: FormatOption = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Score windows that slide over the video, and write them as JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the timeline: a .png, .svg or .pdf file.")] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder to cut the events out into, a file each.")] = None,
    window: WindowOption = None,
    stride: StrideOption = None,
    threshold: ThresholdOption = None,
    leave: LeaveOption = None,
    min_duration: MinDurationOption = 0.0,
    merge_gap: MergeGapOption = 1.0,
    json: JsonOption = False,
) -> None:
    """Judge videos, in this process (--bundle) or on a server (--url).

    A video is taken for one short clip, unless a timeline, a plot, clips, a window, a stride or a threshold is asked
    for: then windows slide over it, and the events in it are told.
    """
    from vdeploy.core.progress import track  # noqa: PLC0415  keeps --help fast
    from vdeploy.detector import find_videos, predict_videos  # noqa: PLC0415  keeps --help fast
    from vdeploy.inference.open_scorer import open_scorer  # noqa: PLC0415  keeps --help fast

    paths = find_videos(videos)
    wants_timeline = any(value is not None for value in (timeline, plot, clips, window, stride, threshold, leave))
    with open_scorer(bundle=bundle, url=url, format_name=format_name) as scorer:
        if wants_timeline:
            rule = event_rule(scorer.threshold, threshold, leave, min_duration, merge_gap)
            predict_timelines(
                paths,
                scorer,
                rule=rule,
                window_s=window,
                stride_s=stride,
                timeline=timeline,
                plot=plot,
                clips=clips,
                json=json,
            )
            return
        predictions = []
        with track("predict", len(paths), "clips") as step:
            for prediction in predict_videos(paths, scorer):
                predictions.append(prediction)
                step.advance()
    _print(scorer, predictions, json=json)
    if all(prediction.error is not None for prediction in predictions):
        raise typer.Exit(1)


def _print(scorer: Any, predictions: list[Any], *, json: bool) -> None:
    if json:
        print_json(
            {
                "classes": list(scorer.classes),
                "threshold": scorer.threshold,
                "predictions": [dataclasses.asdict(prediction) for prediction in predictions],
            }
        )
        return
    rows = []
    for item in predictions:
        verdict = "cannot be read" if item.violent is None else scorer.classes[item.violent]
        probability = None if item.probability is None else f"{item.probability:.4f}"
        rows.append((item.path, probability, verdict, item.error or "; ".join(item.warnings)))
    print_table(("clip", "violent", "verdict", "remark"), rows)
