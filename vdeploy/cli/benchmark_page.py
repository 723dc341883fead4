"""`vdeploy benchmark page`: draws a benchmark as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import print_line


def benchmark_page(
    result: Annotated[Path, typer.Argument(metavar="RESULT.json", help="File that vdeploy benchmark --out wrote.")],
    out: Annotated[Path | None, typer.Option(help="The page. [default: RESULT.html]", show_default=False)] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Name of the row that ratios refer to. [default: model.predict, or else a row in fp32]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw an existing benchmark as one HTML file without scripts or external assets."""
    from vdeploy.benchmark.record import load_benchmark  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.report.page import write_page  # noqa: PLC0415  keeps --help fast

    page = out or result.with_suffix(".html")
    write_page(page, load_benchmark(result), against)
    print_line(f"written: {page}")
