"""How long training takes on this machine, and which precision, with or without XLA, is fastest: measured."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.engine.device_batches import Tables
from training.engine.devices import open_strategy
from training.engine.epoch_plan import FeatureSplit, plan_epoch
from training.engine.loop import TrainingLoop
from training.engine.losses import focal_loss
from training.engine.precision import Precision, candidates, choose_precision
from training.engine.schedule import learning_rate_schedule
from training.recipe import Recipe
from training.recipe_sections import TrainingSection
from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["EpochTimer", "StepTime", "measure_step", "synthetic_split"]

_PORTION = 500
"""Clips that are drawn at a time, so that their float32 form never takes much memory."""


@dataclasses.dataclass(frozen=True)
class StepTime:
    """How long a training step takes in one way of computing.

    Attributes:
        precision: As the recipe names it.
        xla: Whether XLA compiles it.
        milliseconds: Of one step; the best of several passes.
        fastest: Whether no other way is faster.
        default: Whether ``"auto"`` chooses it here.
    """

    precision: str
    xla: bool
    milliseconds: float
    fastest: bool
    default: bool


def measure_step(
    *, batch: int = 64, frames: int = 16, dim: int = 4096, steps: int = 8, passes: int = 3
) -> list[StepTime]:
    """Times training steps on synthetic features in every precision, with and without XLA, on the first device.

    Args:
        batch: Clips of a batch.
        frames: Frames of a clip.
        dim: Features of a frame.
        steps: Steps of a pass.
        passes: Passes that are timed, after one that compiles.

    Returns:
        All ways, the fastest first.
    """
    split = synthetic_split(steps * batch, frames, dim)
    times = {way: _best_pass(split, way, batch, passes) * 1e3 / steps for way in candidates()}
    default = choose_precision(TrainingSection())
    fastest = min(times, key=lambda way: times[way])
    return [
        StepTime(way.name, way.xla, milliseconds, way == fastest, way == default)
        for way, milliseconds in sorted(times.items(), key=lambda item: item[1])
    ]


class EpochTimer:
    """Takes epochs of training, without validation, and times them.

    Args:
        split: What to train on.
        recipe: Model, loss, optimizer, augmentation and batch.
        precision: How to compute.
        devices: As `training.engine.devices.open_strategy` takes them.

    Raises:
        RecipeError: A device is missing, or the batch cannot be divided among the devices.
    """

    def __init__(self, split: FeatureSplit, recipe: Recipe, precision: Precision, devices: Sequence[str]) -> None:
        frames, dim = split.features.shape[-2:]
        steps = math.ceil(len(split.labels) / recipe.training.batch)
        self._split, self._recipe = split, recipe
        head, shape = recipe.make_head(), (frames, dim)
        self._loop = TrainingLoop(
            head,
            shape,
            head.build(shape).get_weights(),
            recipe,
            focal_loss((0.5, 0.5), recipe.loss.gamma, recipe.loss.label_smoothing),
            learning_rate_schedule(recipe, steps),
            open_strategy(tuple(devices)),
            precision,
        )
        limit = recipe.training.memory_limit_gb * 1e9
        self._tables = Tables(split, recipe.training.batch, precision.dtype, limit)
        self._epoch = 0

    def run(self) -> float:
        """Takes an epoch; the first one compiles as well.

        Returns:
            Its duration in seconds.
        """
        started = time.perf_counter()
        seed, batch = (0, self._epoch), self._recipe.training.batch
        plan = plan_epoch(self._split, seed, batch, np.ones(2, np.float32), self._recipe.augment)
        for table, part in self._tables.of(plan):
            self._loop.run(table, part)
        self._epoch += 1
        return time.perf_counter() - started


def synthetic_split(clips: int, frames: int, dim: int) -> FeatureSplit:
    """Random features such as a ReLU leaves them, ``float16[clips, frames, dim]``, and alternating labels."""
    random = np.random.default_rng(0)
    features = np.empty((clips, frames, dim), np.float16)
    for start in range(0, clips, _PORTION):
        part = features[start : start + _PORTION]
        part[:] = np.maximum(random.standard_normal(part.shape, dtype=np.float32), 0)
    return FeatureSplit(features, np.arange(clips) % 2)


def _best_pass(split: FeatureSplit, way: Precision, batch: int, passes: int) -> float:
    """Seconds of the fastest pass over the split."""
    tf: Any = load_tensorflow()
    devices = [f"gpu:{index}" for index in range(len(tf.config.list_logical_devices("GPU")))]
    recipe = Recipe(training=TrainingSection(batch=batch))
    timer = EpochTimer(split, recipe, way, devices[:1] or ("cpu:0",))
    timer.run()
    return min(timer.run() for _ in range(passes))
