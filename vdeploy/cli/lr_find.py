"""`vdeploy lr-find`: suggest a learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import JsonOption, print_json, print_line, print_next
from vdeploy.cli.recipe_options import RecipeOptions


@expand_groups
def lr_find(
    *,
    low: Annotated[float, typer.Option(help="First rate.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Last rate.")] = 1.0,
    steps: Annotated[int, typer.Option(max=1_000_000, help="Number of batches.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Write the curve to this .png, .svg or .json file.")] = None,
    options: RecipeOptions,
    json: JsonOption = False,
) -> None:
    """Suggest a learning rate by raising it from batch to batch until the loss diverges."""
    from training.experiments.learning_rate import sweep  # noqa: PLC0415  keeps --help fast
    from training.experiments.learning_rate_chart import check_suffix, write_rate_curve  # noqa: PLC0415  keeps --help fast
    from training.recipe_methods import NO_FINE_TUNING  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.locks import output_locks  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.write_check import refuse_unwritable  # noqa: PLC0415  keeps --help fast

    chosen = options.load_recipe().varied(fine_tune=NO_FINE_TUNING)
    if out:
        check_suffix(out)
        refuse_unwritable(out)
    with output_locks(out, remedy="choose another --out"):
        data = options.load_study_data(chosen)
        curve = sweep(chosen, data.train, low=low, high=high, steps=steps)
        if out:
            write_rate_curve(curve, out)
    if json:
        print_json(curve.to_dict())
        return
    rate = f"{curve.suggested:.1e}"
    print_line(f"suggested learning rate: {rate}, a tenth of the rate with the lowest smoothed loss")
    if out:
        print_line(f"curve: {out}")
    print_next("train", options.source, "--set", f"optimizer.learning_rate={rate}")
