"""`vdeploy data`: inspect a data set, add mined windows to it, or render a synthetic one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import (
    DataArgument,
    JsonOption,
    PositiveOption,
    StrictOption,
    print_json,
    print_line,
    print_next,
    print_table,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Inspect a data set, add mined windows to it, or render a synthetic one.",
    rich_markup_mode=None,
)


@app.command()
def scan(
    source: DataArgument,
    positive: PositiveOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the splits, if the data set has none.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write the clips with label, split and hash to this CSV.")] = None,
    decode: Annotated[bool, typer.Option(help="Decode every clip to find damaged ones.")] = True,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Count the clips of each class and split, and list those that cannot be used."""
    from vdeploy.dataset.validation import inspect_dataset  # noqa: PLC0415  keeps --help fast

    result = inspect_dataset(source, positive=positive or (), seed=seed, decode=decode, strict=strict)
    if csv:
        result.dataset.write_csv(csv)
    if json:
        print_json(result.to_dict())
        return
    negative, violent = result.dataset.classes
    print_line(f"{source}: {len(result.dataset.clips)} clips; violent = {violent}, non-violent = {negative}")
    rows = [(split or "-", *counts.values()) for split, counts in result.dataset.counts().items()]
    print_table(("split", f"{negative} (non-violent)", f"{violent} (violent)"), rows)
    for heading, problems in (("left out", result.dataset.problems), ("used, but", result.notes)):
        if problems:
            print_line(f"{heading}: {len(problems)}")
            for problem in problems:
                print_line(f"  {problem.path}: {problem.reason}")


@app.command()
def add(
    data: DataArgument,
    candidates: Annotated[
        Path, typer.Argument(metavar="CANDIDATES", help="The candidates.csv of vdeploy mine, with labels.")
    ],
    out: Annotated[Path, typer.Option(help="CSV to write: the clips of DATA and the new ones.")],
    positive: PositiveOption = None,
    json: JsonOption = False,
) -> None:
    """Cut the windows that a person has labelled to clips, and add them to a data set with their source as group."""
    from training.methods.hard_negatives.adding import CLIPS, add_candidates  # noqa: PLC0415  keeps --help fast

    addition = add_candidates(data, candidates, out, positive=positive or ())
    if json:
        print_json({**addition.to_dict(), "data": str(out)})
        return
    counts = ", ".join(f"{count} {name}" for name, count in sorted(addition.added.items()))
    print_line(f"added: {counts}, in {candidates.parent / CLIPS}; without a label and left out: {addition.unlabelled}")
    print_line(f"{addition.clips} clips in {out}")
    print_next("train", out, *(word for name in positive or () for word in ("--positive", name)))


@app.command()
def synth(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to.")],
    clips: Annotated[int, typer.Option(help="Number of clips.")] = 96,
    seed: Annotated[int, typer.Option(help="The same seed gives the same clips.")] = 0,
    violent_share: Annotated[float, typer.Option(help="Share of violent clips.")] = 0.5,
    json: JsonOption = False,
) -> None:
    """Render labelled clips of figures that move calmly or fight."""
    from vdeploy.core.progress import track  # noqa: PLC0415  keeps --help fast
    from vdeploy.synthetic import synthesize  # noqa: PLC0415  keeps --help fast

    with track("render clips", clips, "clips") as step:
        paths = synthesize(target, clips=clips, seed=seed, violent_share=violent_share, on_clip=step.advance)
    if json:
        print_json({"folder": str(target), "clips": [str(path) for path in paths], "seed": seed})
    else:
        print_line(f"{len(paths)} clips in {target}")
