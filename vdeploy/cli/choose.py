"""`vdeploy choose`: which model to take for a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.options import (
    DataArgument,
    JsonOption,
    PositiveOption,
    StoreOption,
    print_json,
    print_line,
    print_next,
    print_table,
    store_root,
)

if TYPE_CHECKING:
    from training.model_choice.choose import Choice


def choose(
    data: DataArgument,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            help="A model to try, by its recipe; may be repeated. [default: one of each backbone]",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="15m|300", help="Minutes, as in 15m, or clips to try. [default: all]", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Times to repeat the cross-validation.")] = 3,
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Train, export and time each model on this machine as well.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the work and the page. [default: choices/NAME_OF_DATA]", show_default=False),
    ] = None,
    positive: PositiveOption = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of every recipe: section.key=value. May be repeated."),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Try models on labelled clips, by cross-validation grouped by source, and say which one to take."""
    import json as text  # noqa: PLC0415  the option has its name

    from training.model_choice.candidates import CANDIDATES, Budget, find_candidates  # noqa: PLC0415  keeps --help fast
    from training.model_choice.choose import choose  # noqa: PLC0415  keeps --help fast
    from training.model_choice.page import write_card, write_page  # noqa: PLC0415  keeps --help fast

    allowed = Budget() if budget is None else Budget.parse(budget)
    folder = out or Path("choices") / data.absolute().stem
    given = [f"data.positive={text.dumps(positive)}"] if positive else []
    candidates, left_out = find_candidates(recipe or CANDIDATES, [*given, *(overrides or ())])
    result = choose(
        data,
        folder,
        candidates,
        store_root=store_root(store),
        budget=allowed,
        seeds=seeds,
        with_speed=speed,
        left_out=left_out,
        may_leave_out=not recipe,
    )
    page = folder / "choice.html"
    write_page(page, result)
    card = folder / "MODEL_CARD.md"
    write_card(card, result, candidates)
    if json:
        print_json({**result.to_dict(), "page": str(page), "card": str(card)})
    else:
        _print(result, page, card)


def _print(result: Choice, page: Path, card: Path) -> None:
    part = f"{result.clips} of {result.all_clips}" if result.clips < result.all_clips else str(result.clips)
    title = f"{result.source}: {part} clips of {result.sources} sources, {result.folds} folds, {result.seeds} seeds"
    rows = []
    for model in result.models:
        accuracy, auc, speed = model.accuracy, model.roc_auc, model.speed
        times = [None, None] if speed is None else [speed.fastest("fp32"), speed.fastest("int8")]
        rows.append(
            (
                model.name,
                f"{accuracy.value:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})",
                f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})",
                None if speed is None else f"{speed.parameters / 1e6:.1f}",
                None if speed is None else f"{speed.gflop:.1f}",
                *(None if time is None else f"{time[1]:.1f} ({time[0]})" for time in times),
            )
        )
    columns = ("model", "accuracy", "AUC", "M parameters", "GFLOP", "FP32, ms a clip", "INT8, ms a clip")
    print_table(columns, rows, title=title)
    for name, reason in result.left_out.items():
        print_line(f"not tried: {name}: {reason}")
    for finding in result.findings:
        print_line(f"{finding.code}: {finding.text}")
    for sentence in result.advice.words:
        print_line(sentence)
    print_line(f"page: {page}")
    print_line(f"model card: {card}")
    taken = next((model for model in result.models if model.name == result.advice.accuracy), None)
    if taken is not None and taken.speed is not None:
        print_next("serve", taken.speed.bundle, "--launch")
