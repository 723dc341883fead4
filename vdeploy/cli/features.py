"""`vdeploy features`: fill the feature store."""

from __future__ import annotations

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

_WORKERS = 2


def features(
    source: DataArgument,
    recipe: RecipeOption = "default",
    layer: LayerOption = None,
    weights: WeightsOption = None,
    positive: PositiveOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
    strict: StrictOption = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local", help="Extract on a Ray cluster, or on one of this machine alone."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of --ray. [default: 2]", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Extract VGG19 features of all clips into the store, going on where it stopped."""
    from training.pipeline import extract_source, scan_source  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast
    from vdeploy.models.weights import find_weights  # noqa: PLC0415  keeps --help fast

    if workers and not ray:
        raise typer.BadParameter("needs a cluster: give --ray ADDRESS or --ray local", param_hint="--workers")
    chosen = load(recipe, overrides, positive=positive, weights=weights, layer=layer)
    dataset = scan_source(source, chosen)
    found = find_weights(chosen.features.weights, chosen.features.layer)
    on_cluster = 0
    if ray:
        from vdeploy.features.ray_extraction import fill_on_cluster  # noqa: PLC0415  only with --ray

        on_cluster = fill_on_cluster(
            dataset, chosen, found, store_root(store), address=ray, workers=workers or _WORKERS
        )
    result = extract_source(dataset, chosen, found, store_root(store), strict=strict)
    for problem in result.dataset.problems:
        say(f"left out: {problem.path}: {problem.reason}")
    summary = {
        "clips": len(result.dataset.clips),
        "from_store": result.hits - on_cluster,
        "decoded": result.decoded + on_cluster,
        "left_out": [{"path": problem.path, "reason": problem.reason} for problem in result.dataset.problems],
        "seconds": round(result.seconds, 3),
        "store": str(store_root(store)),
    }
    if json:
        print_json(summary)
    else:
        typer.echo(
            f"{summary['clips']} clips: {summary['from_store']} from the store, {summary['decoded']} decoded, "
            f"{len(result.dataset.problems)} left out"
        )
