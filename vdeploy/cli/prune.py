"""`vdeploy prune`: fewer channels in the backbone of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, StoreOption, store_root
from vdeploy.cli.train import print_run


def prune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder; its backbone is VGG19 or I3D.")],
    out: Annotated[Path, typer.Option(help="Run folder of the pruned model.")],
    keep: Annotated[float, typer.Option(help="Share of the backbone's floating-point operations that stays.")] = 0.5,
    data: Annotated[Path | None, typer.Option(help="Clips of the run, if they have moved.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Remove channels of a run's backbone, and train the head anew; an interrupted pruning resumes."""
    from training.methods.pruning.prune_run import prune_run  # noqa: PLC0415  keeps --help fast

    print_run(prune_run(run, out, keep=keep, store_root=store_root(store), data=data), json=json)
