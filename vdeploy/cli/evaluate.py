"""`vdeploy evaluate`: measure accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vdeploy.cli.options import (
    DataArgument,
    FormatOption,
    JsonOption,
    PositiveOption,
    StoreOption,
    StrictOption,
    print_json,
    print_line,
    print_table,
    store_root,
)


def evaluate(
    subject: Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="What to evaluate.")],
    source: DataArgument,
    split: Annotated[str, typer.Option(help="train, valid, test or all.")] = "all",
    positive: PositiveOption = None,
    store: StoreOption = None,
    strict: StrictOption = False,
    format_name: FormatOption = None,
    tta: Annotated[
        Literal["none", "mirror"],
        typer.Option(help="Test-time augmentation of a bundle: mirror averages each clip and its mirror image."),
    ] = "none",
    json: JsonOption = False,
) -> None:
    """Measure accuracy on labelled clips: a run in Keras from stored features, a bundle from the video files."""
    from vdeploy.evaluate import evaluate_on  # noqa: PLC0415  keeps --help fast

    result = evaluate_on(
        subject,
        source,
        split=split,
        positive=positive or (),
        store_root=store_root(store),
        strict=strict,
        format_name=format_name,
        tta=tta,
    )
    if json:
        print_json(result.to_dict())
        return
    values = result.evaluation.to_dict()
    confusion = values.pop("confusion")
    rows = [
        (name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else value)
        for name, value in values.items()
        if isinstance(value, int | float)
    ]
    print_table(("measure", "value"), [*rows, *confusion.items()], title=f"{subject} on {source}, split {split}")
    if (cost := result.augmentation_cost) is not None:
        print_line(
            f"test-time augmentation: {cost.clips_per_second:.3g} clips/s with it, "
            f"{cost.clips_per_second_without:.3g} without, decoding left out"
        )
    for problem in result.problems:
        print_line(f"left out: {problem.path}: {problem.reason}")
