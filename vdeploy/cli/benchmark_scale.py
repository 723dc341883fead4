"""`vdeploy benchmark scale`: measures throughput by batch, devices and size of the data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import FormatOption, JsonOption, print_json, print_line, print_table


def benchmark_scale(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="Run: training. Bundle: inference.")],
    batch: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Clips per batch. [default: 16,32,48,64,96]", show_default=False),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of devices that share the batch of the run's recipe.")
    ] = None,
    clips: Annotated[
        str | None, typer.Option(metavar="N,N", help="Sizes of a data set, for the time of an epoch.")
    ] = None,
    logical_cpus: Annotated[
        bool, typer.Option("--logical-cpus", help="Count parts of one CPU as devices; they share its speed.")
    ] = False,
    pipeline: Annotated[
        bool, typer.Option("--pipeline", help="A bundle: time frames to probabilities as well, which takes long.")
    ] = False,
    format_name: FormatOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=4096, help="A bundle: threads per call. [default: all cores]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, max=86_400, help="Time for each position of an axis.")] = 3.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write scaling.json and scaling.svg there.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure scaling: inference of a bundle by batch; training of a run by batch, devices and clips."""
    from vdeploy.benchmark.scaling.output import CHART, NUMBERS, scaling_report, write_scaling  # noqa: PLC0415  same
    from vdeploy.benchmark.scaling.selection import choose_studies  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.locks import output_locks  # noqa: PLC0415  keeps --help fast

    with output_locks(out, remedy="choose another --out"):
        studies = choose_studies(
            source,
            batch=batch,
            devices=devices,
            clips=clips,
            logical_cpus=logical_cpus,
            pipeline=pipeline,
            format_name=format_name,
            threads=threads,
            seconds=seconds,
        )
        report = scaling_report(source, studies, threads)
        if out:
            write_scaling(out, report, studies)
    if json:
        print_json(report)
        return
    columns = ("calls", "median s", "p10 s", "p90 s", "clips/s", "times first")
    for study in studies:
        rows = [
            (
                point.value,
                point.calls,
                *(f"{value:.4g}" for value in (point.seconds, point.p10_seconds, point.p90_seconds)),
                f"{point.clips_per_s:.1f}",
                f"{point.times_first:.2f}",
            )
            for point in study.points
        ]
        print_table((study.axis, *columns), rows, title=study.what)
    if out:
        print_line(f"written: {out / NUMBERS}, {out / CHART}")
