"""`vdeploy benchmark` and its subcommands."""

from __future__ import annotations

import typer

from vdeploy.cli.benchmark import benchmark
from vdeploy.cli.benchmark_compare import benchmark_compare
from vdeploy.cli.benchmark_page import benchmark_page
from vdeploy.cli.benchmark_scale import benchmark_scale
from vdeploy.cli.default_verb import DEFAULT, DefaultVerbGroup

__all__ = ["app"]

app = typer.Typer(
    cls=DefaultVerbGroup,
    help="Measure speed and accuracy; compare or draw such results; see how speed scales.",
    rich_markup_mode=None,
)
app.command(
    DEFAULT,
    hidden=True,
    epilog="Also, each with --help: vdeploy benchmark compare BEFORE.json AFTER.json, vdeploy benchmark page "
    "RESULT.json, vdeploy benchmark scale RUN_OR_BUNDLE. A bundle of such a name is given as a path: ./compare",
)(benchmark)
app.command("compare")(benchmark_compare)
app.command("page")(benchmark_page)
app.command("scale")(benchmark_scale)
