"""`vdeploy mine`: windows of video without violence that a bundle takes for violence."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.event_options import StrideOption, WindowOption
from vdeploy.cli.options import FormatOption, JsonOption, print_json, print_line, print_table

if TYPE_CHECKING:
    from training.methods.hard_negatives.mining import Mining


def mine(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    footage: Annotated[
        list[str], typer.Argument(metavar="FOOTAGE...", help="Videos without violence: files, folders or patterns.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the candidates, and for the results of finished videos.")],
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Candidates at most.")] = 100,
    distance: Annotated[
        float, typer.Option(min=0, max=2, help="Cosine distance of features up to which windows are alike.")
    ] = 0.1,
    window: WindowOption = None,
    stride: StrideOption = None,
    format_name: FormatOption = None,
    json: JsonOption = False,
) -> None:
    """Find the windows of videos without violence that a bundle scores highest, for a person to confirm.

    Run it again to continue after an interruption.
    """
    from training.methods.hard_negatives.mining import CANDIDATES, MiningRequest, mine  # noqa: PLC0415  keeps --help fast
    from vdeploy.detector import find_videos  # noqa: PLC0415  keeps --help fast

    left_out: dict[str, str] = {}
    videos = find_videos(footage, leave_out=lambda file, reason: left_out.update({str(file): reason}))
    mining = mine(MiningRequest(bundle, videos, out, format_name, count, distance, window, stride))
    if json:
        print_json({**mining.to_dict(), "left_out": left_out})
    else:
        _print(mining, left_out, out / CANDIDATES)
    if not mining.videos:
        raise typer.Exit(1)


def _print(mining: Mining, left_out: dict[str, str], table: Path) -> None:
    from vdeploy.timeline.plot import clock  # noqa: PLC0415  keeps --help fast

    rows = [
        (video.path, clock(video.duration_s), video.windows, video.false_alarms, f"{video.peak:.4f}")
        for video in mining.videos
    ]
    if rows:
        print_table(("video", "length", "windows", "false alarms", "highest score"), rows)
    for video in mining.videos:
        for warning in video.warnings:
            print_line(f"{video.path}: {warning}")
    for path, reason in {**mining.failed, **left_out}.items():
        print_line(f"left out: {path}: {reason}")
    if mining.false_alarms_per_hour is not None:
        print_line(
            f"false alarms at the threshold of {mining.threshold:.4g}: {mining.false_alarms} in"
            f" {clock(3600 * mining.hours)} of video, {mining.false_alarms_per_hour:.2f} an hour,"
            " if the videos hold no violence"
        )
    print_line(f"{len(mining.candidates)} candidates in {table}; look at {table.with_suffix('.html')}")
    if mining.candidates:
        added = f"vdeploy data add DATA {shlex.quote(str(table))} --out NEW.csv"
        print_line(f"enter a class in the column label of those that you confirm, then: {added}")
