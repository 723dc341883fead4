"""Fine-tuning: the last blocks of a backbone are trained together with the head.

What comes before these blocks, the trunk, stays as it is. The feature store keeps its activations, so an epoch costs
only what is trained. Batch normalisation is folded into the convolutions of every backbone: its statistics are those of
the pre-training.

A linear head begins as the logistic regression on the features of the frozen backbone. A random one would first pull
the features away from what the pre-training has learned (Kumar et al. 2022, "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", sec. 3). Blocks further from the head may learn more slowly
and later (Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", sec. 3.2 and 3.3).

The blocks may learn with the eight bits of an INT8 export; see `training.methods.quantization_aware`.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.epoch_plan import FeatureSplit
from training.engine.logistic import LogisticTrainer
from training.engine.precision import type_of_convolutions
from training.methods.fine_tuning_step import BlocksStep, features_of
from training.methods.quantization_aware import refuse_other_layers
from training.recipe import Recipe
from vdeploy.core.lazy_imports import load_keras
from vdeploy.features.rows import FeatureRows
from vdeploy.models.base import Head
from vdeploy.models.training_step import TrainingStep
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["BlocksAndHead", "blocks_and_head", "trunk_of"]

_PORTION_BYTES = 1 << 28


def trunk_of(recipe: Recipe, weights: Weights) -> Trunk | None:
    """The part of the backbone that a recipe leaves as it is; ``None`` where that is the whole of it.

    Args:
        recipe: Every choice.
        weights: The backbone's weights.

    Raises:
        RecipeError: The blocks cannot be trained as the recipe asks.
    """
    if not recipe.fine_tune.blocks:
        return None
    whole, key = recipe.fine_tuned_backbone(), recipe.make_backbone().cache_key
    trunk = Trunk(whole, recipe.fine_tune.blocks, recipe.clip_spec, weights, key=key)
    if recipe.fine_tune.quantization_aware:
        refuse_other_layers(itertools.chain(*trunk.layers), whole.title)
    return trunk


class BlocksAndHead:
    """The last blocks of a backbone with a head behind them, to be trained as one head on the trunk's activations.

    Args:
        head: The head.
        trunk: The rest of the backbone.
        recipe: Its section ``fine_tune`` applies.
        clips: Clips of the training split.
        logits: First weights of the layer ``logits``; random ones if left out.
    """

    def __init__(
        self,
        head: Head[Any],
        trunk: Trunk,
        recipe: Recipe,
        clips: int,
        logits: Sequence[npt.NDArray[np.float32]] | None = None,
    ) -> None:
        self._head, self._trunk, self._recipe, self._logits = head, trunk, recipe, logits
        self._steps = math.ceil(clips / recipe.training.batch)
        self._shape = trunk.whole.feature_shape(recipe.clip.frames)

    def build(self, shape: tuple[int, int]) -> keras.Model:
        """Build the model, with the blocks as the pre-training left them.

        Args:
            shape: Shape of a clip's activations, (s, D).

        Returns:
            A model ``activations float32[B, s, D]`` to ``probabilities float32[B, 2]``; its layer of the head's name is
            the head.
        """
        keras: Any = load_keras()
        head = self._head.build(self._shape)
        if self._logits is not None:
            head.get_layer("logits").set_weights(self._logits)
        self._trunk.restore()
        given = keras.Input(shape, name="activations", dtype="float32")
        return keras.Model(given, head(features_of(self._trunk, self._trunk.tail, given, keras.ops.reshape)))

    def training_step(self, shape: tuple[int, int], dtype: str, *, compiled: bool = False) -> TrainingStep:
        """Return how both are computed while they are trained; see `vdeploy.models.base.Head.training_step`."""
        del shape
        step = self._head.training_step(self._shape, dtype, compiled=compiled)
        aware = self._recipe.fine_tune.quantization_aware
        blocks_dtype = "float32" if aware else type_of_convolutions(dtype, self._recipe.training)
        return BlocksStep(
            self._trunk, step, self._shape[1], (dtype, blocks_dtype), self._shares(), quantization_aware=aware
        )

    def _shares(self) -> list[tuple[float, int]]:
        """Of each weight of the blocks: its learning rate as a share of the head's, and the step it is trained from."""
        section, rate = self._recipe.fine_tune, self._recipe.optimizer.learning_rate
        blocks = {
            id(weight): distance
            for distance, layers in enumerate(reversed(self._trunk.layers))
            for layer in layers
            for weight in layer.weights
        }
        distances = [blocks[id(weight)] for weight in self._trunk.tail.weights]
        return [
            (
                section.learning_rate / rate * section.layer_decay**distance,
                round(section.unfreeze_epochs * distance * self._steps),
            )
            for distance in distances
        ]


def blocks_and_head(recipe: Recipe, trunk: Trunk, train: FeatureSplit, valid: FeatureSplit) -> BlocksAndHead:
    """Make what a recipe with fine-tuning trains.

    Args:
        recipe: Every choice. With ``optimizer.solver = "auto"``, a linear head begins as the exact solution.
        trunk: The part of the backbone that is not trained.
        train: The training split: activations of the trunk.
        valid: The validation split.

    Raises:
        DatasetError: The clips do not allow the exact solution.
    """
    head, logits = recipe.make_head(), None
    if head.linear and recipe.optimizer.solver == "auto":
        logits = _fitted_logits(recipe, _frozen(trunk, train), _frozen(trunk, valid))
    return BlocksAndHead(head, trunk, recipe, len(train.labels), logits)


def _fitted_logits(recipe: Recipe, train: FeatureSplit, valid: FeatureSplit) -> list[npt.NDArray[np.float32]]:
    sections = {name: getattr(recipe, name).model_dump() for name in ("clip", "backbone", "head", "training")}
    loss = {**recipe.loss.model_dump(), "gamma": 0.0}
    exact = Recipe().varied(**sections, loss=loss, optimizer={"solver": "logistic", "l2": recipe.optimizer.l2})
    with tempfile.TemporaryDirectory(prefix="vdeploy-head-") as folder:
        trainer = LogisticTrainer(exact, train, valid, Path(folder))
        trainer.fit()
    weights: list[npt.NDArray[np.float32]] = trainer.model.get_layer("logits").get_weights()
    return weights


def _frozen(trunk: Trunk, split: FeatureSplit) -> FeatureSplit:
    """A split with features of the backbone as the pre-training left it."""
    trunk.restore()
    ops: Any = load_keras().ops
    rows, lead = split.features, split.features.shape[:-2]
    size = max(_PORTION_BYTES // (4 * math.prod(rows.shape[1:])), 1)
    parts = []
    for start in range(0, len(rows), size):
        clips = rows[start : start + size].reshape(-1, *rows.shape[-2:]).astype(np.float32)
        parts.append(features_of(trunk, trunk.tail, clips, ops.reshape).numpy().astype(np.float16))
    features: FeatureRows = np.concatenate(parts).reshape(*lead, *parts[0].shape[1:])
    return FeatureSplit(features, split.labels, split.groups)
