"""`vdeploy pretrain`: the trunk of a head learns from footage without labels."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.event_options import StrideOption
from vdeploy.cli.options import JsonOption, StoreOption, print_json, print_line, store_root
from vdeploy.cli.recipe_options import OverridesOption, RecipeOption


def pretrain(
    footage: Annotated[
        list[str], typer.Argument(metavar="FOOTAGE...", help="Videos of any length: files, folders or patterns.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the pre-trained trunk.")],
    recipe: RecipeOption = "default",
    overrides: OverridesOption = None,
    window: Annotated[
        float, typer.Option(min=0.04, max=86_400, help="Seconds of a window: the length of the clips to train on.")
    ] = 2.0,
    stride: StrideOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Pre-train the trunk of a recipe's head on videos that nobody has labelled; run it again to resume."""
    from training.methods.self_supervised.pretraining import pretrain  # noqa: PLC0415  keeps --help fast
    from training.recipe import load_recipe  # noqa: PLC0415
    from vdeploy.detector import find_videos  # noqa: PLC0415

    left_out: dict[str, str] = {}
    videos = find_videos(footage, leave_out=lambda file, reason: left_out.update({str(file): reason}))
    chosen = load_recipe(recipe, overrides or ())
    done = pretrain(videos, out, chosen, store_root=store_root(store), window_s=window, stride_s=stride)
    if json:
        print_json({**dataclasses.asdict(done), "folder": str(done.folder), "left_out": left_out})
        return
    for path, reason in {**done.failed, **left_out}.items():
        print_line(f"left out: {path}: {reason}")
    print_line(f"{done.windows} windows of {done.videos} videos; loss {done.loss[0]:.4f} to {done.loss[-1]:.4f}")
    print_line(f"trunk: {out}")
    chosen_file = shlex.quote(str(out / "recipe.toml"))
    print_line(f"next: vdeploy train DATA --recipe {chosen_file} --init {shlex.quote(str(out))}")
