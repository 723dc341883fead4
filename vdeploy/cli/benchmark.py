"""`vdeploy benchmark`: how fast is it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import FormatOption, JsonOption, print_json, print_table


def benchmark(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    url: Annotated[
        str | None, typer.Option(help="HOST:PORT of a server that serves it, to measure it as well.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips a call.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each row.")] = 5.0,
    out: Annotated[Path | None, typer.Option(help="Write the result to this JSON file as well.")] = None,
    format_name: FormatOption = None,
    json: JsonOption = False,
) -> None:
    """Measure latency and throughput of each stage and of the whole, in process and served."""
    from training.files import write_json  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.latency import benchmark_bundle  # noqa: PLC0415  keeps --help fast

    result = benchmark_bundle(bundle, url=url, batch=batch, seconds=seconds, format_name=format_name)
    if out:
        write_json(out, result)
    if json:
        print_json(result)
        return
    machine = result["machine"]
    columns = ("what", "where", "format", "batch", "calls", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "clips/s")
    rows = [[f"{value:.2f}" if isinstance(value, float) else value for value in row.values()] for row in result["rows"]]
    print_table(columns, rows, title=f"{bundle} on {machine['cores']} cores of {machine['cpu']}")
