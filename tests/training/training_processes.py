"""A small training as a program of its own: `python training_processes.py OUT.json FOLDER OVERRIDE...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from training.engine.trainer import FeatureSplit, Trainer
from training.recipe import load_recipe

SIZES = ("training.epochs=4", "training.batch=8", "head.units=8", "head.dense=8")


def main(out: Path, folder: Path, *overrides: str) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(44) % 2
    features = (random.gamma(0.5, 20, (44, 6, 12)) + 3 * labels[:, None, None]).astype(np.float16)
    trainer = Trainer(
        load_recipe("default", [*SIZES, *overrides]),
        FeatureSplit(features[:30], labels[:30]),
        FeatureSplit(features[30:], labels[30:]),
        folder,
    )
    trainer.fit()
    weights = [float(np.abs(value).sum()) for value in trainer.model.get_weights()]
    out.write_text(json.dumps({"losses": [record.loss for record in trainer.history], "weights": weights}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
