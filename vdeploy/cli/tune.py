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
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Times to repeat the cross-validation of a trial.")] = 1,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A further recipe whose clips and backbone are tried; may be repeated. [default: none]",
            show_default=False,
        ),
    ] = None,
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
    """Search for the recipe with the best AUC by cross-validation over sources; resumes.

    Heads, methods and hyperparameters are searched; a key that --set gives is not. The test split plays no part.
    """
    from training.experiments.tuning import search  # noqa: PLC0415  keeps --help fast
    from training.model_choice.candidates import find_candidates  # noqa: PLC0415  keeps --help fast
    from training.pipeline import scan_source  # noqa: PLC0415  keeps --help fast
    from training.recipe_versions import read_assignment  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.lazy_imports import require  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.locks import output_locks  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast

    require("optuna", extra="tune", purpose="vdeploy tune")
    chosen = options.load_recipe()
    study = study or Path("studies") / f"{options.source.absolute().stem}.db"
    out = out or study.with_suffix(".toml")
    overrides = options.overrides or []
    candidates, left_out = find_candidates(models, overrides, taken=[options.recipe]) if models else ([], {})
    for name, reason in left_out.items():
        say(f"not tried: {name}: {reason}")
    others = {candidate.name: candidate.recipe for candidate in candidates if candidate.recipe != chosen}
    with output_locks(study, out, remedy="choose another --study and --out"):
        result = search(
            scan_source(options.source, chosen),
            {options.recipe: chosen, **others},
            options.store_root,
            study,
            out,
            trials=trials,
            seeds=seeds,
            fixed=[read_assignment(text.partition("=")[0].strip()) for text in overrides],
            strict=options.strict,
        )
    if json:
        print_json({**result.to_dict(), "study": str(study), "best": str(out)})
        return
    rows = [(name, _text(value), _share(result.importance.get(name))) for name, value in result.parameters.items()]
    title = f"best of {result.trials} trials, {result.pruned} of them pruned"
    print_table(("parameter", "value", "importance"), rows, title=title)
    rest = [f"{name} {_share(share)}" for name, share in result.importance.items() if name not in result.parameters]
    if rest:
        print_line(f"importance of what the best recipe does not take: {', '.join(rest)}")
    figures = result.figures
    print_line(
        f"AUC {figures.roc_auc:.4f}, log loss {figures.log_loss:.4f}, accuracy {figures.accuracy:.4f} in "
        f"cross-validation by source: the best of {result.trials}, so expect less on other clips"
    )
    print_line(f"study: {study}")
    print_line(f"recipe: {out}")
    print_next("train", options.source, "--recipe", out)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.3f}"
