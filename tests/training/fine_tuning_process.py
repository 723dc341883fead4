"""A small fine-tuning as a program of its own: `python fine_tuning_process.py OUT.json FOLDER EPOCHS OVERRIDE...`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from training.engine.choose_trainer import make_trainer
from training.engine.devices import open_strategy
from training.engine.epoch_plan import FeatureSplit
from training.methods.fine_tuning import trunk_of
from training.recipe import load_recipe
from vdeploy.models.registry import BACKBONES
from vdeploy.models.weights.find import Weights

OPTIONS = (
    "backbone.name=toy-blocks",
    "backbone.weights=random",
    "clip.frames=2",
    "clip.size=32",
    "fine_tune.blocks=1",
    "head.units=8",
    "head.dense=8",
    "training.batch=8",
    "training.patience=200",
    "averaging.decay=0.9",
)


def main(out: Path, folder: Path, epochs: str, *overrides: str) -> None:
    BACKBONES["toy-blocks"] = "testing.toy_models:ToyBlocks"
    recipe = load_recipe("default", [*OPTIONS, f"training.epochs={epochs}", *overrides])
    strategy = open_strategy(recipe.training.devices)
    trunk = trunk_of(recipe, Weights("random", None, "0" * 64))
    assert trunk is not None
    random, labels = np.random.default_rng(0), np.arange(24) % 2
    activations = random.gamma(0.5, 1, (24, *trunk.feature_shape(2))).astype(np.float16)
    train, valid = (FeatureSplit(activations[part], labels[part]) for part in (slice(0, 16), slice(16, 24)))
    trainer = make_trainer(recipe, train, valid, folder, strategy, trunk=trunk)
    trainer.fit()
    digest = hashlib.sha256(b"".join(value.tobytes() for value in trunk.network.get_weights())).hexdigest()
    head = hashlib.sha256(b"".join(value.tobytes() for value in trainer.head.get_weights())).hexdigest()
    losses = [record.loss for record in trainer.history]
    out.write_text(json.dumps({"losses": losses, "backbone": digest, "head": head}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
