"""`vdeploy features`: fill the feature store."""

from __future__ import annotations

from typing import Annotated

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import JsonOption, print_json, print_line
from vdeploy.cli.recipe_options import RecipeOptions


@expand_groups
def features(
    *,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local", help="Extract on a Ray cluster, or on one that this machine starts."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of --ray. [default: 2]", show_default=False)
    ] = None,
    options: RecipeOptions,
    json: JsonOption = False,
) -> None:
    """Extract the features of all clips into the store; what it holds already is not extracted again."""
    from training.fill_store import fill_store  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast

    if workers and not ray:
        raise typer.BadParameter("needs a cluster: give --ray ADDRESS or --ray local", param_hint="--workers")
    report = fill_store(
        options.source,
        options.load_recipe(),
        options.store_root,
        strict=options.strict,
        cluster=ray,
        workers=workers,
    )
    for problem in report.left_out:
        say(f"left out: {problem.path}: {problem.reason}")
    if json:
        print_json(report.to_dict())
        return
    print_line(
        f"{report.clips} clips: {report.from_store} from the store, {report.decoded} decoded, "
        f"{len(report.left_out)} left out"
    )
