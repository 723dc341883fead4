"""One step of a fine-tuning: the last blocks of a backbone, and the head behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.methods.quantization_aware import QuantizedTail
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.dtype_policy import dtype_policy
from vdeploy.models.normalization import normalize
from vdeploy.models.training_step import TrainingStep
from vdeploy.models.trunk import Trunk

if TYPE_CHECKING:
    import keras

__all__ = ["BlocksStep", "features_of"]


class BlocksStep(TrainingStep):
    """The step of `training.methods.fine_tuning.BlocksAndHead`; its features are activations as they are in the store.

    Args:
        trunk: The rest of the backbone.
        head: The step of the head.
        dim: Features that the head takes, F.
        dtypes: Compute types of the head and of the blocks.
        shares: Of each weight of the blocks: its learning rate as a share of the head's, and the step that it is
            trained from.
        quantization_aware: Whether the blocks simulate eight bits; they have to compute in float32 then, as bfloat16
            has no more steps than these.
    """

    normalized = False

    def __init__(
        self,
        trunk: Trunk,
        head: TrainingStep,
        dim: int,
        dtypes: tuple[str, str],
        shares: Sequence[tuple[float, int]],
        *,
        quantization_aware: bool,
    ) -> None:
        self._trunk, self._head, self._dim, self._shares = trunk, head, dim, shares
        self._dtype, blocks_dtype = dtypes
        with dtype_policy(blocks_dtype):
            tail = trunk.another_tail()
            self._tail: Any = QuantizedTail(tail) if quantization_aware else tail
        self._judged: Any = None

    @property
    def first_state(self) -> Sequence[Any]:
        """The ranges of simulated quantization."""
        return self._tail.first_state if isinstance(self._tail, QuantizedTail) else ()

    def judged(self, model: keras.Model, state: Sequence[Any]) -> keras.Model:
        """Return the model, or one with its weights that simulates eight bits: an export will have these."""
        if not isinstance(self._tail, QuantizedTail):
            return model
        if self._judged is None:
            keras: Any = load_keras()
            given = keras.Input(model.input_shape[1:], name="activations", dtype="float32")
            tail = QuantizedTail(self._trunk.tail).model
            features = features_of(self._trunk, tail, given, keras.ops.reshape)
            self._judged = keras.Model(given, model.layers[-1](features)), tail.non_trainable_variables
        judged, ranges = self._judged
        for variable, value in zip(ranges, state, strict=True):
            variable.assign(value)
        return judged

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
        return self.advance(weights, self.first_state, features, drawn)[0]

    def advance(self, weights: Sequence[Any], state: Sequence[Any], features: Any, drawn: Any) -> tuple[Any, list[Any]]:
        """Compute the output and the next ranges; see `TrainingStep.advance`."""
        tf: Any = load_tensorflow()
        whole, mine = drawn
        count, after = len(self._shares), []

        def tail(activations: Any) -> Any:
            out, ranges = self._tail.stateless_call(list(weights[:count]), list(state), activations, training=True)
            after.extend(ranges)
            return out

        out = features_of(self._trunk, tail, tf.transpose(features, (1, 0, 2)), tf.reshape)
        out = normalize(out, self._dtype) if self._head.normalized else tf.cast(out, self._dtype)
        out = tf.transpose(out, (1, 0, 2))
        return self._head.probabilities(weights[count:], self._head.leave_out(out, whole), mine), after


def features_of(trunk: Trunk, tail: Any, clips: Any, reshape: Any) -> Any:
    """Compute features of clips; the tail may take frames one by one.

    Args:
        trunk: What the activations are those of.
        tail: The blocks behind it.
        clips: Activations, ``[B, s, D]``.
        reshape: ``tf.reshape`` or that of Keras.

    Returns:
        ``[B, t, F]``.
    """
    if trunk.granularity == "clip":
        return tail(clips)
    steps, dim = clips.shape[-2:]
    features = tail(reshape(clips, (-1, dim)))
    return reshape(features, (-1, steps, features.shape[-1]))
