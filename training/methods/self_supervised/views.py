"""The two views of a window, and the network that embeds them: the trunk of a head, and an expander behind it.

A view shows a part of the window, drawn anew each time and spread over its steps, with a share of the features left
out. Both are changes that leave the label of a clip as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.epoch_plan import EpochPlan
from training.recipe_sections import PretrainSection
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Head
from vdeploy.models.normalization import normalization_layer
from vdeploy.models.training_step import KerasStep, TrainingStep

if TYPE_CHECKING:
    import keras

__all__ = ["EXPANDER_WEIGHTS", "EmbeddedTrunk", "plan_pairs"]

EXPANDER_WEIGHTS = 6
"""Kernels and biases of the expander, the last weights of the model."""


def plan_pairs(windows: int, steps: int, seed: tuple[int, int], batch: int, shortest: float) -> EpochPlan:
    """Plan an epoch: batches of pairs of views, the two of a window one after the other.

    Every window occurs at most once; those that fill no whole batch wait for another epoch.

    Args:
        windows: Windows, N.
        steps: Steps in time of a window, t.
        seed: Seed of the training and number of the epoch; nothing else decides what is drawn.
        batch: Windows of a batch, B, at most N.
        shortest: Share of a window that a view shows at least.

    Returns:
        A plan of ``N // B`` steps of 2 B rows each, whose targets say nothing.
    """
    random = np.random.default_rng(seed)
    batches = windows // batch
    rows = np.repeat(random.permutation(windows)[: batches * batch], 2)
    lengths = random.integers(math.ceil(shortest * steps), steps + 1, size=(len(rows), 1))
    starts = random.integers(steps - lengths + 1)
    frames = starts + ((np.arange(steps) + 0.5) * lengths / steps).astype(np.int64)
    return EpochPlan(
        clip_frames=steps,
        rows=rows.reshape(batches, 2 * batch),
        frames=frames.reshape(batches, 2 * batch, steps).astype(np.int32),
        partner=None,
        share=None,
        targets=np.zeros((batches, 2 * batch, 1), np.float32),
        weights=np.ones((batches, 2 * batch), np.float32),
        counts=np.full(batches, 2 * batch, np.float32),
    )


class EmbeddedTrunk:
    """The trunk of a head, everything before its logits, with an expander behind it; trained as a head is.

    The trunk's own dropout is off: what is left out of the views takes its place. The expander is that of the paper,
    sec. 4.2: dense layers of one width, the first two with batch normalisation and ReLU. It is left behind after the
    training, so its normalisation needs the statistics of batches alone, and no moving ones.

    Args:
        head: The head.
        section: What is masked, and the width of the expander.
    """

    def __init__(self, head: Head[Any], section: PretrainSection) -> None:
        settings = head.settings
        if hasattr(settings, "dropout"):
            settings = settings.model_copy(update={"dropout": 0.0})
        self._head, self._section = type(head)(settings), section

    def build(self, shape: tuple[int, int]) -> keras.Model:
        """Build the model ``features float32[B, t, F]`` to ``embeddings float32[B, d]``.

        Args:
            shape: Shape of a window's features, (t, F).
        """
        return self._model(shape, normalizes=self._head.normalized)

    def training_step(self, shape: tuple[int, int], dtype: str, *, compiled: bool = False) -> TrainingStep:
        """Return how it is computed while it is trained; see `vdeploy.models.base.Head.training_step`."""
        del compiled
        return KerasStep(lambda: self._model(shape, normalizes=False), dtype, normalized=self._head.normalized)

    def _model(self, shape: tuple[int, int], *, normalizes: bool) -> keras.Model:
        keras: Any = load_keras()
        features = keras.Input(shape, name="features", dtype="float32")
        x = normalization_layer()(features) if normalizes else features
        masking = keras.layers.Dropout(self._section.masked, noise_shape=(None, 1, shape[1]), name="masked_features")
        x = self._head.body(masking(x))
        return keras.Model(features, _expander(x.shape[1], self._section.expander)(x))


def _expander(size: int, width: int) -> keras.Model:
    """The model from outputs of a trunk to embeddings: a model of its own, lest names meet those of the trunk."""
    keras: Any = load_keras()
    given = x = keras.Input((size,), dtype="float32")
    for _ in range(2):
        x = keras.ops.relu(_normalized(keras.layers.Dense(width, dtype="float32")(x)))
    return keras.Model(given, keras.layers.Dense(width, dtype="float32")(x), name="expander")


def _normalized(x: Any) -> Any:
    """Normalise over the batch (Ioffe & Szegedy 2015); the layers around it have the gain and the bias."""
    ops: Any = load_keras().ops
    centred = x - ops.mean(x, axis=0, keepdims=True)
    return centred * ops.rsqrt(ops.mean(ops.square(centred), axis=0, keepdims=True) + 1e-5)
