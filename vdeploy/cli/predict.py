"""`vdeploy predict`: is this video violent, and when?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from vdeploy.cli.options import FormatOption, JsonOption, print_json, print_table
from vdeploy.cli.timelines import ThresholdOption, event_rule, predict_timelines

_WINDOW_HELP = "Seconds of a window, as long as the training clips; asks for a timeline. [default: 2]"


def predict(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Files, folders or glob patterns.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run in this process.")] = None,
    url: Annotated[str | None, typer.Option(help="HOST:PORT of a Triton server's gRPC service.")] = None,
    format_name: FormatOption = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Score windows that slide over the video, and write them as JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the timeline: a .png, .svg or .pdf file.")] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder to cut the events out into, a file each.")] = None,
    window: Annotated[float | None, typer.Option(min=0.04, help=_WINDOW_HELP, show_default=False)] = None,
    stride: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds from window to window. [default: half a window]", show_default=False),
    ] = None,
    threshold: ThresholdOption = None,
    leave: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Probability down to which an event goes on. [default: 0.8 of it]", show_default=False
        ),
    ] = None,
    min_duration: Annotated[float, typer.Option(min=0, help="Seconds of the shortest event.")] = 0.0,
    merge_gap: Annotated[float, typer.Option(min=0, help="Seconds between events that are one.")] = 1.0,
    json: JsonOption = False,
) -> None:
    """Judge short clips, or find the events in long videos, in this process (--bundle) or on a server (--url)."""
    from training.progress import track  # noqa: PLC0415  keeps --help fast
    from vdeploy.connect import open_scorer  # noqa: PLC0415  keeps --help fast
    from vdeploy.detector import find_videos, predict_videos  # noqa: PLC0415  keeps --help fast

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
