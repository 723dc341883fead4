"""`vdeploy benchmark`: how fast is it, and how good?"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, PositiveOption, print_json, print_table


def benchmark(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    url: Annotated[
        str | None, typer.Option(help="HOST:PORT of a server that serves it, to measure it as well.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Start a Triton here for each format that it can serve, and measure it.")
    ] = False,
    concurrency: Annotated[
        str, typer.Option(help="Callers of a server at once, several numbers separated by commas.")
    ] = "1",
    perf_analyzer: Annotated[
        Path | None,
        typer.Option(help="NVIDIA's perf_analyzer, to measure the same server with it.", show_default=False),
    ] = None,
    what: Annotated[
        str, typer.Option(help="Stages and wholes to measure, separated by commas.")
    ] = "extractor,classifier,pipeline,video",
    formats: Annotated[
        str | None,
        typer.Option("--format", help="Formats, separated by commas. [default: all of the bundle]", show_default=False),
    ] = None,
    batch: Annotated[str, typer.Option(help="Clips a call, several sizes separated by commas.")] = "1",
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each row.")] = 5.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a call. [default: all cores]", show_default=False)
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Run the same files in OpenVINO and in TensorFlow's other ways, too.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="Name of the row that ratios refer to. [default: onnx-fp32]", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled clips, to judge the held-out ones. [default: figures of the export]", show_default=False
        ),
    ] = None,
    clips: Annotated[
        int | None, typer.Option(min=1, help="How many clips to judge. [default: all held out]", show_default=False)
    ] = None,
    positive: PositiveOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the result to this JSON file as well.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts to this HTML file as well.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure latency, throughput, memory and accuracy of each stage and of the whole, in process and served."""
    from vdeploy.benchmark.bundle_benchmark import benchmark_bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.plan import (  # noqa: PLC0415
        PEERS,
        Plan,
        parse_batches,
        parse_concurrency,
        parse_workloads,
    )
    from vdeploy.benchmark.record import save_benchmark  # noqa: PLC0415
    from vdeploy.benchmark.report.table import COLUMNS, choose_reference, table_rows, title_of  # noqa: PLC0415
    from vdeploy.core.write_check import refuse_unwritable  # noqa: PLC0415  keeps --help fast
    from vdeploy.formats import ALL, parse_formats  # noqa: PLC0415

    plan = Plan(
        workloads=parse_workloads(what),
        formats=None if formats in (None, ALL) else tuple(entry.name for entry in parse_formats(str(formats))),
        batches=parse_batches(batch),
        seconds=seconds,
        threads=threads,
        peers=PEERS if peers else (),
        url=url,
        serve=serve,
        concurrency=parse_concurrency(concurrency),
        perf_analyzer=perf_analyzer,
        data=data,
        clips=clips,
        positive=tuple(positive or ()),
    )
    for file in filter(None, (out, html)):
        refuse_unwritable(file)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends servers and row processes as Ctrl-C does
    result = benchmark_bundle(bundle, plan)
    if out:
        save_benchmark(out, result)
    if html:
        from vdeploy.benchmark.report.page import write_page  # noqa: PLC0415  only for a page

        write_page(html, result, against)
    if json:
        print_json(result.model_dump(mode="json"))
        return
    reference = choose_reference(result, against)
    print_table(COLUMNS, table_rows(result, reference), title=title_of(result, reference))
