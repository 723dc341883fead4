"""`vdeploy tune`: search hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import JsonOption, print_json, print_line, print_next, print_table
from vdeploy.cli.recipe_options import RecipeOptions


@expand_groups
def tune(
    *,
    trials: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Number of finished trials in the study at the end.")
    ] = 30,
    study: Annotated[
        Path | None,
        typer.Option(help="SQLite file of the study. [default: studies/NAME_OF_DATA.db]", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The best recipe is written here. [default: the study's name, as .toml]", show_default=False),
    ] = None,
    options: RecipeOptions,
    json: JsonOption = False,
) -> None:
    """Search for the recipe with the best validation AUC; an interrupted search resumes."""
    from training.experiments.tuning import search  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.lazy_imports import require  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.locks import output_locks  # noqa: PLC0415  keeps --help fast

    require("optuna", extra="tune", purpose="vdeploy tune")
    chosen = options.load_recipe()
    study = study or Path("studies") / f"{options.source.absolute().stem}.db"
    out = out or study.with_suffix(".toml")
    with output_locks(study, out, remedy="choose another --study and --out"):
        data = options.load_study_data(chosen)
        result = search(data, chosen, study, out, trials=trials)
    if json:
        print_json({**result.to_dict(), "study": str(study), "best": str(out)})
        return
    rows = [(name, f"{value:.4g}") for name, value in result.parameters.items()]
    print_table(("parameter", "value"), rows, title=f"best of {result.trials} trials")
    figures = result.figures
    print_line(
        f"validation AUC {figures.roc_auc:.4f}, log loss {figures.log_loss:.4f}, accuracy {figures.accuracy:.4f}: the "
        f"best of {result.trials} on one split, so expect less on other clips"
    )
    print_line(f"study: {study}")
    print_line(f"recipe: {out}")
    print_next("train", options.source, "--recipe", out)
