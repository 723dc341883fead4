"""Learning-rate range test: the loss at a rate that rises with every step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.losses import class_weights, focal_alpha, focal_loss
from training.engine.trainer import FeatureSplit
from training.methods.class_balanced_sampling import class_pools, draw_clips, drawn_labels
from training.methods.self_supervised.trunk import start_from_trunk
from training.recipe import Recipe
from vdeploy.core.errors import StudyError
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.core.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["RateCurve", "smoothed", "suggested_rate", "sweep"]

_SMOOTHING = 0.9
_DIVERGED = 4.0
"""The sweep ends where the smoothed loss exceeds the lowest one by this factor."""


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """The loss at rising learning rates.

    Attributes:
        rates: One for each step.
        losses: The training loss of each step's batch, before the step.
        smooth: The same, smoothed.
        suggested: The rate that `suggested_rate` derives from it.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    suggested: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)


def sweep(recipe: Recipe, train: FeatureSplit, *, low: float = 1e-6, high: float = 1.0, steps: int = 200) -> RateCurve:
    """Trains a new classifier at a rising rate until the loss diverges.

    This is the range test of Smith 2017, "Cyclical Learning Rates for Training Neural Networks", sec. 3.3, with a rate
    that rises exponentially instead of linearly, so that every decade gets as many steps.

    Args:
        recipe: Defines model, loss, batch, clipping, weight decay and seed.
        train: Training split.
        low: The first rate.
        high: The last rate.
        steps: Number of steps.

    Raises:
        StudyError: The range is empty, the training split holds one class only, or the loss never falls.
    """
    if not (0 < low < high < math.inf and steps >= 10):
        raise StudyError(
            f"a sweep from {low:g} to {high:g} in {steps} steps is none", "give 0 < low < high and 10 steps or more"
        )
    if len(set(train.labels.tolist())) < 2:
        raise StudyError("the training split holds one class only", "add clips of the other class")
    if not train.all_finite():
        raise StudyError(
            "the features hold NaN or infinity", "check the weights of the backbone, and extract them again"
        )
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    best = math.inf
    run_step = _step_function(recipe, train)
    batches = _batches(train, recipe)
    with track("sweep learning rates", steps, "steps") as progress:
        for rate, rows in zip(rates, batches, strict=False):
            loss = run_step(rate, rows)
            if not math.isfinite(loss):
                break
            losses.append(loss)
            latest = float(smoothed(losses)[-1])
            best = min(best, latest)
            progress.advance(1, note=f"rate {rate:.1e} loss {latest:.4f}")
            if latest > _DIVERGED * best:
                break
    if not losses:
        raise StudyError("the loss is not a number at the first step", "check the features")
    smooth = smoothed(losses)
    rates = rates[: len(losses)]
    return RateCurve(
        rates=tuple(rates.tolist()),
        losses=tuple(losses),
        smooth=tuple(smooth.tolist()),
        suggested=suggested_rate(rates, smooth),
    )


def smoothed(losses: list[float]) -> npt.NDArray[np.float64]:
    """Exponential moving average with its start-up bias divided out (Kingma and Ba 2015, sec. 3).

    Args:
        losses: One for each step.

    Returns:
        ``float64[N]``.
    """
    average, result = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        result.append(average / (1 - _SMOOTHING**step))
    return np.asarray(result)


def suggested_rate(rates: npt.NDArray[np.float64], smooth: npt.NDArray[np.float64]) -> float:
    """Returns a tenth of the rate at which the smoothed loss is lowest, a decade below the onset of divergence.

    Args:
        rates: Rising, ``float64[N]``.
        smooth: The smoothed loss at each, ``float64[N]``.

    Raises:
        StudyError: The loss is lowest at the first rate: it never fell.
    """
    lowest = int(np.argmin(smooth))
    if not lowest:
        raise StudyError("the loss never falls", "start at a lower rate: --low")
    return float(rates[lowest]) / 10


def _batches(split: FeatureSplit, recipe: Recipe) -> Iterator[npt.NDArray[np.int64]]:
    """Yields the rows of full batches without end, in a new order for each epoch."""
    random, batch, count = np.random.default_rng(recipe.training.seed), recipe.training.batch, len(split.labels)
    pools = class_pools(split.labels) if recipe.sampling.balance == "classes" else [np.arange(count)]
    rows = np.empty(0, np.int64)
    while True:
        while len(rows) < batch:
            rows = np.concatenate([rows, draw_clips(random, pools, count)])
        yield rows[:batch]
        rows = rows[batch:]


def _step_function(recipe: Recipe, split: FeatureSplit) -> Any:
    """Returns a function that takes a rate and rows, trains one step and returns the batch's loss before it."""
    tf, keras = load_tensorflow(), load_keras()
    keras.utils.set_random_seed(recipe.training.seed)
    _, frames, dim = split.features.shape
    model: Any = recipe.make_head().build((frames, dim))
    start_from_trunk(recipe, model)
    optimizer = keras.optimizers.AdamW(
        0.0, weight_decay=recipe.optimizer.weight_decay, global_clipnorm=recipe.optimizer.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)
    section, drawn = recipe.loss, drawn_labels(recipe.sampling, split.labels)
    loss_of = focal_loss(focal_alpha(section.alpha, drawn), section.gamma, section.label_smoothing)
    weights = np.asarray(class_weights(section.class_weights, drawn), np.float32)

    @tf.function  # type: ignore[untyped-decorator]
    def step(features: Any, targets: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = model(features, training=True)
            loss = tf.reduce_mean(loss_of(targets, probabilities) * weight)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        # Keras clips probabilities before the logarithm, and clipping turns NaN into a number.
        return tf.where(tf.reduce_all(tf.math.is_finite(probabilities)), loss, math.nan)

    def run(rate: float, rows: npt.NDArray[np.int64]) -> float:
        optimizer.learning_rate = rate
        labels = split.labels[rows]
        targets = np.eye(2, dtype=np.float32)[labels]
        return float(step(tf.constant(split.features[rows].astype(np.float32)), tf.constant(targets), weights[labels]))

    return run
