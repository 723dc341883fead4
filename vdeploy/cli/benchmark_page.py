"""`vdeploy benchmark page`: draws benchmarks as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import print_line


def benchmark_page(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT.json...", help="Files that vdeploy benchmark --out wrote, of one model or of several."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page. [default: RESULT.html; needed for several]", show_default=False)
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Name of the row that ratios refer to, with several models after the model's: 'mine: onnx-fp32'. "
            "[default: model.predict, or else a row in fp32; of the first model]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw existing benchmarks as one HTML file without scripts or external assets."""
    from vdeploy.benchmark.record import load_benchmark  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.report.page import write_page  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.report.several_models import join_benchmarks  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.errors import BenchmarkError  # noqa: PLC0415  keeps --help fast

    if out is None and len(results) > 1:
        raise BenchmarkError("several results have no page yet", "say where it goes: --out FILE.html")
    page = out or results[0].with_suffix(".html")
    benchmarks = [(path, load_benchmark(path)) for path in results]
    shown = benchmarks[0][1] if len(results) == 1 else join_benchmarks(benchmarks)
    write_page(page, shown, against)
    print_line(f"written: {page}")
