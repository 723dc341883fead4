"""Which precision, with or without XLA, trains fastest on this machine: measured, not assumed."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from training.batches import FeatureSplit, plan_epoch
from training.classifier import build_classifier
from training.devices import open_strategy
from training.frameworks import load_tensorflow
from training.loop import TrainingLoop
from training.losses import focal_loss
from training.precision import Precision, candidates, choose_precision
from training.recipe import Recipe, TrainingSection
from training.schedule import learning_rate_schedule
from training.tables import Tables

__all__ = ["StepTime", "measure_step"]


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
    random = np.random.default_rng(0)
    features = np.maximum(random.standard_normal((steps * batch, frames, dim), np.float32), 0).astype(np.float16)
    split = FeatureSplit(features, np.arange(len(features)) % 2)
    times = {way: _best_pass(split, way, batch, passes) * 1e3 / steps for way in candidates()}
    default = choose_precision(TrainingSection())
    fastest = min(times, key=lambda way: times[way])
    return [
        StepTime(way.name, way.xla, milliseconds, way == fastest, way == default)
        for way, milliseconds in sorted(times.items(), key=lambda item: item[1])
    ]


def _best_pass(split: FeatureSplit, way: Precision, batch: int, passes: int) -> float:
    """Seconds of the fastest pass over the split."""
    tf: Any = load_tensorflow()
    devices = [f"gpu:{index}" for index in range(len(tf.config.list_logical_devices("GPU")))]
    strategy = open_strategy(tuple(devices[:1]) or ("cpu:0",))
    recipe = Recipe(training=TrainingSection(batch=batch))
    frames, dim = split.features.shape[-2:]
    model = build_classifier(frames, dim, recipe.model)
    plan = plan_epoch(split, (0, 1), batch, np.ones(2, np.float32), recipe.augment)
    schedule = learning_rate_schedule(recipe, len(plan.rows))
    loop = TrainingLoop(model.get_weights(), recipe, focal_loss((0.5, 0.5), 2.0), schedule, strategy, way)
    [(table, whole)] = Tables(split, batch, way.dtype, split.nbytes).of(plan)
    loop.run(table, whole)
    seconds = []
    for _ in range(passes):
        started = time.perf_counter()
        loop.run(table, whole)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
