"""`vdeploy ablate`: measure what each method adds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import JsonOption, print_json, print_line, print_table
from vdeploy.cli.recipe_options import RecipeOptions


@expand_groups
def ablate(
    *,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings per row; seeds 0, 1, 2, ...")] = 3,
    imbalance: Annotated[
        str | None,
        typer.Option(metavar="FREQUENT/RARE", help="Drop training clips of one class to reach this ratio."),
    ] = None,
    rare: Annotated[
        str, typer.Option(help="The class that --imbalance drops: non-violent or violent.")
    ] = "non-violent",
    out: Annotated[
        Path | None,
        typer.Option(help="File of finished trainings. [default: studies/NAME_OF_DATA.json]", show_default=False),
    ] = None,
    options: RecipeOptions,
    json: JsonOption = False,
) -> None:
    """Compare recipes from cross-entropy up to a given one, one method more per row; an interrupted study resumes."""
    from training.experiments.ablation import ladder  # noqa: PLC0415  keeps --help fast
    from training.experiments.comparison import compare  # noqa: PLC0415  keeps --help fast
    from training.experiments.imbalance import parse_imbalance  # noqa: PLC0415  keeps --help fast
    from training.experiments.results_cache import open_ledger  # noqa: PLC0415  keeps --help fast

    chosen = options.load_recipe()
    lopsided = parse_imbalance(imbalance, rare) if imbalance else None
    file = out or Path("studies") / f"{options.source.absolute().stem}.json"
    with open_ledger(file) as ledger:
        data = options.load_study_data(chosen)
        result = compare(ladder(chosen), data, range(seeds), ledger, imbalance=lopsided)
    if json:
        print_json(result.to_dict())
        return
    rows = [
        (row.name, row.accuracy, row.rare_accuracy, row.calibrated_accuracy, row.roc_auc, f"{row.seconds:.1f}")
        for row in result.rows
    ]
    columns = ("row", "accuracy", f"accuracy, {result.rare_class}", "accuracy, calibrated", "AUC", "seconds")
    print_table(columns, rows, title=f"{options.source}, recipe {options.recipe}: each row adds one method")
    print_line(result.conditions)
    print_line(f"trainings: {file}")
