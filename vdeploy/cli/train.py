"""`vdeploy train`: train a classifier."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import JsonOption, print_json, print_line, print_next, print_table
from vdeploy.cli.recipe_options import RecipeOptions

if TYPE_CHECKING:
    from vdeploy.artifacts.run import Run


@expand_groups
def train(
    *,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. [default: runs/NAME_OF_DATA]", show_default=False)
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Train with so many seeds, and make one ensemble of these runs.")
    ] = 1,
    init: Annotated[
        Path | None, typer.Option(help="Folder of vdeploy pretrain: the head starts from its weights.")
    ] = None,
    options: RecipeOptions,
    json: JsonOption = False,
) -> None:
    """Train a classifier; an interrupted training resumes."""
    from training.methods.ensembling import train_seeds  # noqa: PLC0415  keeps --help fast

    if init is not None:
        trunk = f"pretrain.trunk={init.absolute()}"
        options = dataclasses.replace(options, overrides=[*(options.overrides or ()), trunk])
    chosen = options.load_recipe()
    folder = out or Path("runs") / options.source.absolute().stem
    run = train_seeds(options.source, folder, chosen, seeds, store_root=options.store_root, strict=options.strict)
    print_run(run, json=json)


def print_run(run: Run, *, json: bool) -> None:
    """Prints the metrics of a finished run."""
    metrics, suspicious = run.metrics, run.suspicious_labels
    if json:
        values: dict[str, Any] = {"run": str(run.root), "report": str(run.root / "report.html"), "metrics": metrics}
        if suspicious is not None:
            values["suspicious_labels"] = suspicious
        print_json(values)
        return
    columns = ("split", "clips", "accuracy", "non-violent", "violent", "precision", "recall", "F1", "AUC")
    keys = ("accuracy", "accuracy_non_violent", "accuracy_violent", "precision", "recall", "f1", "roc_auc")
    rows = [
        (split, values["clips"], *(None if values[key] is None else f"{values[key]:.4f}" for key in keys))
        for split, values in metrics.items()
    ]
    info = run.info
    origin = f"{len(info.members)} members" if info.members else f"best epoch {info.best_epoch}"
    print_table(columns, rows, title=f"{info.name}: {origin}, violent = {info.classes[1]}")
    if suspicious:
        print_line(f"labels to check: {len(suspicious)} training clips, listed in the report")
    print_line(f"run: {run.root}")
    print_line(f"report: {run.root / 'report.html'}")
    print_next("export", run.root)
