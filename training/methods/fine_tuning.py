"""Fine-tuning: the last blocks of a backbone are trained together with the head.

What comes before these blocks, the trunk, stays as it is. The feature store keeps its activations, so an epoch costs
only what is trained. Batch normalisation is folded into the convolutions of every backbone: its statistics are those of
the pre-training.

A linear head begins as the logistic regression on the features of the frozen backbone. A random one would first pull
the features away from what the pre-training has learned (Kumar et al. 2022, "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", sec. 3). Blocks further from the head may learn more slowly
and later (Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", sec. 3.2 and 3.3).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.epoch_plan import FeatureSplit
from training.engine.logistic import LogisticTrainer
from training.recipe import Recipe
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.features.rows import FeatureRows
from vdeploy.models.base import Head
from vdeploy.models.normalization import normalize
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
    """
    if not recipe.fine_tune.blocks:
        return None
    whole, key = recipe.fine_tuned_backbone(), recipe.make_backbone().cache_key
    return Trunk(whole, recipe.fine_tune.blocks, recipe.clip_spec, weights, key=key)


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
        return keras.Model(given, head(_features(self._trunk, self._trunk.tail, given, keras.ops.reshape)))

    def training_step(self, shape: tuple[int, int], dtype: str, *, compiled: bool = False) -> TrainingStep:
        """Return how both are computed while they are trained; see `vdeploy.models.base.Head.training_step`."""
        del shape
        step = self._head.training_step(self._shape, dtype, compiled=compiled)
        return _Step(self._trunk, step, self._shape[1], dtype, self._shares())

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


class _Step(TrainingStep):
    """The step of `BlocksAndHead`; its features are activations as they are in the store.

    Args:
        trunk: The rest of the backbone.
        head: The step of the head.
        dim: Features that the head takes, F.
        dtype: Compute type.
        shares: What `BlocksAndHead` found for the weights of the blocks.
    """

    normalized = False

    def __init__(
        self, trunk: Trunk, head: TrainingStep, dim: int, dtype: str, shares: Sequence[tuple[float, int]]
    ) -> None:
        self._trunk, self._head, self._dim, self._dtype, self._shares = trunk, head, dim, dtype, shares
        config: Any = load_keras().config
        before = config.dtype_policy()
        config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
        try:
            self._tail: Any = trunk.another_tail()
        finally:
            config.set_dtype_policy(before)

    def learning_rates(self, step: Any) -> list[Any] | None:
        """Shares of the blocks that are trained at a step, and nothing for those that wait."""
        tf: Any = load_tensorflow()
        return [tf.where(step >= start, tf.constant(share, tf.float32), 0.0) for share, start in self._shares]

    def draw(self, seed: Any, batch: int, dim: int) -> Any:
        """Draw what the head leaves out."""
        del dim
        return self._head.draw(seed, batch, self._dim)

    def of_replica(self, drawn: Any, clips: slice, replica: Any) -> Any:
        """Return what was drawn, as a whole and for the replica."""
        return drawn, self._head.of_replica(drawn, clips, replica)

    def probabilities(self, weights: Sequence[Any], features: Any, drawn: Any) -> Any:
        """Compute the output; see `TrainingStep.probabilities`."""
        tf: Any = load_tensorflow()
        whole, mine = drawn
        count = len(self._shares)

        def tail(activations: Any) -> Any:
            return self._tail.stateless_call(list(weights[:count]), [], activations, training=True)[0]

        out = _features(self._trunk, tail, tf.transpose(features, (1, 0, 2)), tf.reshape)
        out = normalize(out, self._dtype) if self._head.normalized else tf.cast(out, self._dtype)
        out = tf.transpose(out, (1, 0, 2))
        return self._head.probabilities(weights[count:], self._head.leave_out(out, whole), mine)


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
        parts.append(_features(trunk, trunk.tail, clips, ops.reshape).numpy().astype(np.float16))
    features: FeatureRows = np.concatenate(parts).reshape(*lead, *parts[0].shape[1:])
    return FeatureSplit(features, split.labels, split.groups)


def _features(trunk: Trunk, tail: Any, clips: Any, reshape: Any) -> Any:
    """Features of clips' activations ``[B, s, D]``, where the tail may take frames one by one."""
    if trunk.granularity == "clip":
        return tail(clips)
    steps, dim = clips.shape[-2:]
    features = tail(reshape(clips, (-1, dim)))
    return reshape(features, (-1, steps, features.shape[-1]))
