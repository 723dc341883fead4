"""`vdeploy predict`: is this video violent?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import FormatOption, JsonOption, print_json, print_table


def predict(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Files, folders or glob patterns.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run in this process.")] = None,
    url: Annotated[str | None, typer.Option(help="HOST:PORT of a Triton server's gRPC service.")] = None,
    format_name: FormatOption = None,
    json: JsonOption = False,
) -> None:
    """Judge videos, in this process (--bundle) or on a server (--url)."""
    from training.progress import track  # noqa: PLC0415  keeps --help fast
    from vdeploy.connect import open_scorer  # noqa: PLC0415  keeps --help fast
    from vdeploy.detector import find_videos, predict_videos  # noqa: PLC0415  keeps --help fast

    paths = find_videos(videos)
    predictions = []
    with (
        open_scorer(bundle=bundle, url=url, format_name=format_name) as scorer,
        track("predict", len(paths), "clips") as step,
    ):
        for prediction in predict_videos(paths, scorer):
            predictions.append(prediction)
            step.advance()
    failed = sum(prediction.error is not None for prediction in predictions)
    if json:
        print_json(
            {
                "classes": list(scorer.classes),
                "threshold": scorer.threshold,
                "predictions": [dataclasses.asdict(prediction) for prediction in predictions],
            }
        )
    else:
        rows = []
        for item in predictions:
            verdict = "cannot be read" if item.violent is None else scorer.classes[item.violent]
            probability = None if item.probability is None else f"{item.probability:.4f}"
            rows.append((item.path, probability, verdict, item.error or "; ".join(item.warnings)))
        print_table(("clip", "violent", "verdict", "remark"), rows)
    if failed == len(predictions):
        raise typer.Exit(1)
