"""Small pre-trainings on several devices as a program of its own: `python pretraining_processes.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from training.methods.self_supervised.pretrainer import Pretrainer
from training.recipe import load_recipe
from vdeploy.core.errors import RecipeError

SIZES = ("training.precision=float32", "head.units=4", "head.dense=8", "pretrain.expander=8", "pretrain.epochs=2")
VIEWS_ALIKE = ("pretrain.masked=0", "pretrain.shortest=1", "pretrain.variance=0", "pretrain.covariance=0")
"""Nothing is left but the distance of the two views of a window, which show the same."""


def losses(folder: Path, windows: int, devices: int, *overrides: str) -> list[float]:
    names = [f"cpu:{number}" for number in range(devices)]
    features = np.random.default_rng(0).normal(size=(windows, 4, 6)).astype(np.float16)
    pretrainer = Pretrainer(load_recipe("default", [*SIZES, f"training.devices={names}", *overrides]), features, folder)
    pretrainer.fit()
    return pretrainer.history


def main(folder: Path) -> None:
    found: dict[str, object] = {
        "three devices": losses(folder / "three", 20, 3, "pretrain.batch=16"),
        "two devices, views alike": losses(folder / "two", 5, 2, *VIEWS_ALIKE),
    }
    try:
        losses(folder / "few", 3, 2)
    except RecipeError as error:
        found["two devices, three windows"] = str(error)
    print(json.dumps(found))  # noqa: T201  the program's result


if __name__ == "__main__":
    main(Path(sys.argv[1]))
