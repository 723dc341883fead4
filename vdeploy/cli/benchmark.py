"""`vdeploy benchmark`: measures speed and accuracy of a bundle."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, PositiveOption, print_json, print_table


def benchmark(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    url: Annotated[
        str | None, typer.Option(help="HOST:PORT of a server that serves the bundle, to be measured as well.")
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Start a Triton here for each format that it can serve, and measure it."),
    ] = False,
    concurrency: Annotated[
        str, typer.Option(help="Numbers of concurrent callers of a server, separated by commas.")
    ] = "1",
    perf_analyzer: Annotated[
        Path | None,
        typer.Option(help="Path of NVIDIA's perf_analyzer, to measure the same server with.", show_default=False),
    ] = None,
    what: Annotated[str, typer.Option(help="Workloads, separated by commas.")] = "extractor,classifier,pipeline,video",
    formats: Annotated[
        str | None,
        typer.Option("--format", help="Formats, separated by commas. [default: all of the bundle]", show_default=False),
    ] = None,
    batch: Annotated[str, typer.Option(help="Clips per call, several sizes separated by commas.")] = "1",
    seconds: Annotated[float, typer.Option(min=0, max=86_400, help="Time for each row.")] = 5.0,
    threads: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Threads per call. [default: all cores]", show_default=False)
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Run the same files in OpenVINO, by model.predict and with XLA as well.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="Name of the row that ratios refer to. [default: onnx-fp32]", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled clips; the held-out ones are scored. [default: figures of the export]",
            show_default=False,
        ),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(min=1, help="Clips to score. [default: all held out]", show_default=False),
    ] = None,
    positive: PositiveOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the result to this JSON file as well.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts to this HTML file as well.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure latency, throughput, memory and accuracy of each stage and of the whole, in process and served."""
    from vdeploy.benchmark.bundle_benchmark import benchmark_bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.kept_speeds import keep_speeds  # noqa: PLC0415
    from vdeploy.benchmark.plan import (  # noqa: PLC0415
        PEERS,
        Plan,
        parse_batches,
        parse_concurrency,
        parse_workloads,
    )
    from vdeploy.benchmark.record import save_benchmark  # noqa: PLC0415
    from vdeploy.benchmark.report.table import COLUMNS, choose_reference, table_rows, title_of  # noqa: PLC0415
    from vdeploy.core.locks import output_locks  # noqa: PLC0415  keeps --help fast
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops servers and processes of rows as Ctrl-C does
    with output_locks(out, html, remedy="choose another --out and --html"):
        result = benchmark_bundle(bundle, plan)
        if out:
            save_benchmark(out, result)
        if html:
            from vdeploy.benchmark.report.page import write_page  # noqa: PLC0415  only for a page

            write_page(html, result, against)
    keep_speeds(bundle, result)
    if json:
        print_json(result.model_dump(mode="json"))
        return
    reference = choose_reference(result, against)
    print_table(COLUMNS, table_rows(result, reference), title=title_of(result, reference))
