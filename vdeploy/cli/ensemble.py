"""`vdeploy ensemble`: one run of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, StoreOption, store_root
from vdeploy.cli.train import print_run


def ensemble(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders of the members.")],
    out: Annotated[Path, typer.Option(help="Run folder of the ensemble.")],
    data: Annotated[Path | None, typer.Option(help="Clips of the runs, if they have moved.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Make one run of several, also of different backbones: the mean of their calibrated probabilities."""
    from training.methods.ensembling import make_ensemble  # noqa: PLC0415  keeps --help fast

    print_run(make_ensemble(runs, out, store_root=store_root(store), data=data), json=json)
