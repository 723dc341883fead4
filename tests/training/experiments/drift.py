"""Sequences whose mean drifts up (violent) or down, which a classifier learns in seconds."""

from __future__ import annotations

import numpy as np

from training.engine.trainer import FeatureSplit
from training.experiments.data import StudyData
from training.recipe import Recipe, load_recipe

SMALL = (
    "training.epochs=3",
    "training.batch=16",
    "head.units=8",
    "head.dense=8",
    "head.pooling=last",  # the mean of a drift over time tells nothing
    "optimizer.warmup_epochs=1",
)


def small_recipe(*overrides: str) -> Recipe:
    return load_recipe("default", [*SMALL, *overrides])


def drift_split(count: int, seed: int = 0) -> FeatureSplit:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    drift = np.linspace(-1, 1, 6)[None, :, None] * (2 * labels - 1)[:, None, None]
    features = random.normal(size=(count, 6, 12)) + drift * np.linspace(-2, 2, 12)
    return FeatureSplit(features.astype(np.float16), labels.astype(np.int64))


def drift_data(digest: str = "drift") -> StudyData:
    valid = drift_split(20, seed=1)
    return StudyData(drift_split(40), valid, valid, "valid", digest)
