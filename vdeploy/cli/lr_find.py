"""`vdeploy lr-find`: how fast may it learn?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import (
    DataArgument,
    JsonOption,
    LayerOption,
    PositiveOption,
    RecipeOption,
    SetOption,
    StoreOption,
    StrictOption,
    WeightsOption,
    load,
    print_json,
    store_root,
)


def lr_find(
    source: DataArgument,
    low: Annotated[float, typer.Option(help="The rate to begin with.")] = 1e-6,
    high: Annotated[float, typer.Option(help="The rate to end with.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Batches from the one to the other.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Write the curve to this .png, .svg or .json file.")] = None,
    recipe: RecipeOption = "default",
    layer: LayerOption = None,
    weights: WeightsOption = None,
    positive: PositiveOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Suggest a learning rate: raise it from batch to batch until the loss diverges, and read the curve."""
    from training.experiments.data import load_study_data  # noqa: PLC0415  keeps --help fast
    from training.experiments.learning_rate import sweep  # noqa: PLC0415  keeps --help fast
    from training.experiments.learning_rate_chart import check_suffix, write_rate_curve  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.write_check import refuse_unwritable  # noqa: PLC0415  keeps --help fast

    chosen = load(recipe, overrides, positive=positive, weights=weights, layer=layer)
    if out:
        check_suffix(out)
        refuse_unwritable(out)
    data = load_study_data(source, chosen, store_root(store), strict=strict)
    curve = sweep(chosen, data.train, low=low, high=high, steps=steps)
    if out:
        write_rate_curve(curve, out)
    if json:
        print_json(curve.to_dict())
        return
    rate = f"{curve.suggested:.1e}"
    typer.echo(f"suggested learning rate: {rate}, a tenth of the rate with the lowest smoothed loss")
    if out:
        typer.echo(f"curve: {out}")
    typer.echo(f"next: vdeploy train {source} --set optimizer.learning_rate={rate}")
