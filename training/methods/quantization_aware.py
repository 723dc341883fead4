"""Quantization-aware training: the blocks that are trained compute with the eight bits that an INT8 export gives them.

Weights and activations are rounded in the forward pass, and stay floats (Jacob et al. 2018, "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", sec. 3). Gradients pass a rounding as if it were
not there, and end where a value was clipped (the straight-through estimator; Bengio, Léonard and Courville 2013).

What is rounded, and how, is what `vdeploy.export.quantization.qdq` does in the flavour ``cpu``:

- the weights of a layer to 127 steps on either side of zero, with a scale for each output channel. Batch normalisation
  is folded into the convolutions of every backbone with blocks, so these are the folded weights (sec. 3.2);
- what a layer reads, and what it gives behind its ReLU, to 256 levels over a range that zero is a level of;
- not its bias, which has 32 bits in an export (sec. 2.4).

Ranges are moving averages of the smallest and the largest value of a batch (sec. 3.1). In the first step values pass as
they are, and their ranges are the first ones.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras, load_tensorflow

if TYPE_CHECKING:
    import keras

__all__ = ["RANGE_DECAY", "QuantizedTail", "refuse_other_layers", "round_weights"]

RANGE_DECAY = 0.99
"""Of a step's ranges with each further step. The paper's is closer to 1, for thousands of steps from random weights."""

_ACTIVATIONS = ("linear", "relu", "relu6")
"""Activations inside a layer behind which an export quantizes what the layer gives."""


class QuantizedTail:
    """The last blocks of a backbone with simulated quantization.

    Args:
        tail: The blocks, as `vdeploy.models.splitting.Split` has them; it shares its layers.

    Attributes:
        model: Activations to features, with the weights of the tail and the ranges.
        first_state: For each tensor that is quantized, how far it reaches below and above zero, ``float32[2]``: zeros.
    """

    def __init__(self, tail: keras.Model) -> None:
        tf: Any = load_tensorflow()
        self.model: Any = load_keras().models.clone_model(
            tail, clone_function=lambda layer: layer, call_function=_Quantizer().call, recursive=True
        )
        places = {id(weight): place for place, weight in enumerate(tail.weights)}
        self._places = [places[id(weight)] for weight in self.model.trainable_variables]
        self.first_state = [tf.zeros(variable.shape) for variable in self.model.non_trainable_variables]

    def stateless_call(
        self, weights: Sequence[Any], state: Sequence[Any], activations: Any, *, training: bool
    ) -> tuple[Any, list[Any]]:
        """Compute features.

        Args:
            weights: The weights of the tail, in its order, float32.
            state: `first_state`, or what the call before has returned.
            activations: What the tail takes, float32.
            training: Whether ranges move.

        Returns:
            The features, and the next state.
        """
        ordered = [weights[place] for place in self._places]
        features, after = self.model.stateless_call(ordered, list(state), activations, training=training)
        return features, list(after)


def refuse_other_layers(layers: Iterable[keras.Layer], title: str) -> None:
    """Refuse blocks that an export to INT8 computes in another way than the simulation.

    Args:
        layers: The layers of the blocks that have weights.
        title: The name of their backbone.

    Raises:
        RecipeError: A layer is no convolution or dense layer, or has an activation that is not fused with it.
    """
    for layer in layers:
        kind = type(layer).__name__
        activation = getattr(getattr(layer, "activation", None), "__name__", kind)
        if not isinstance(layer, _quantizable_types()):
            problem = f"is a {kind}, whose eight bits are not simulated"
        elif activation not in _ACTIVATIONS:
            problem = f"has the activation {activation}, and what comes before it is quantized"
        else:
            continue
        raise RecipeError(
            f"fine_tune.quantization_aware must be false: {layer.name} of {title} {problem}",
            "fold a batch normalisation into its convolution, or train fewer blocks",
        )


def round_weights(weights: Any, channel_axes: int) -> Any:
    """Round a layer's weights to eight bits, with a scale for each output channel.

    Args:
        weights: ``float32[..., channels]``.
        channel_axes: How many of the last axes count the output channels.

    Returns:
        The multiple of each channel's scale that is nearest; the scale is its largest magnitude over 127. The gradient
        is that of the weights themselves, for none is clipped.
    """
    tf: Any = load_tensorflow()
    channels = 1
    for size in weights.shape[-channel_axes:]:
        channels *= size
    flat = tf.reshape(weights, (-1, channels))
    reach = tf.reduce_max(tf.abs(flat), axis=0)
    reach = tf.where(reach > 0, reach, 1.0)
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -reach, reach, narrow_range=True)
    return weights + tf.stop_gradient(tf.reshape(rounded, weights.shape) - weights)


class _Quantizer:
    """Calls the layers of a model once more, with tensors quantized where `vdeploy.export.quantization.qdq` does so."""

    def __init__(self) -> None:
        self._ends: dict[int, Any] = {}
        self._quantized: dict[int, Any] = {}
        self._kept: list[Any] = []

    def call(self, layer: Any, given: Any, **arguments: Any) -> Any:
        """Call a layer on what it is given.

        Args:
            layer: A layer, or an operation on tensors.
            given: A tensor or a nest of them.
            **arguments: Further arguments of the call.
        """
        keras: Any = load_keras()
        self._kept.append(given)  # else another tensor could get its id
        if isinstance(layer, _quantizable_types()):
            return self._end(_rounded_layer_type()(layer)(self._read(given, quantize=True)))
        if isinstance(layer, keras.layers.ReLU) and id(given) in self._ends:
            return self._end(layer(given))
        read = keras.tree.map_structure(self._read, given)
        result = layer(read, **arguments)
        if isinstance(layer, (keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)) and read is not given:
            # The largest of some levels is one of them: the pool keeps the range.
            self._quantized[id(result)] = result
        return result

    def _end(self, tensor: Any) -> Any:
        self._ends[id(tensor)] = tensor
        return tensor

    def _read(self, tensor: Any, *, quantize: bool = False) -> Any:
        """The quantized form of a tensor, where it has one or must have one."""
        if id(tensor) not in self._quantized and (quantize or id(tensor) in self._ends):
            self._quantized[id(tensor)] = _quantized_tensor_type()()(tensor)
        return self._quantized.get(id(tensor), tensor)


@functools.cache
def _quantizable_types() -> tuple[type, ...]:
    layers: Any = load_keras().layers
    return (layers.Conv2D, layers.Conv3D, layers.DepthwiseConv2D, layers.Dense)


@functools.cache
def _rounded_layer_type() -> type:
    keras: Any = load_keras()

    class RoundedLayer(keras.layers.Layer):  # type: ignore[misc]
        """A layer whose weights are rounded before it computes."""

        def __init__(self, layer: Any) -> None:
            super().__init__(name=f"{layer.name}.rounded", dtype=layer.dtype_policy)
            self._layer = layer

        def call(self, given: Any) -> Any:
            kernel, *bias = (variable.value for variable in self._layer.trainable_variables)
            channel_axes = 2 if isinstance(self._layer, keras.layers.DepthwiseConv2D) else 1
            return self._layer.stateless_call([round_weights(kernel, channel_axes), *bias], [], given)[0]

    return RoundedLayer


@functools.cache
def _quantized_tensor_type() -> type:
    keras: Any = load_keras()
    tf: Any = load_tensorflow()

    class QuantizedTensor(keras.layers.Layer):  # type: ignore[misc]
        """A tensor on 256 levels, and the range of these levels."""

        def build(self, shape: Any) -> None:
            del shape
            self._reach = self.add_weight(shape=(2,), initializer="zeros", trainable=False, name="reach")

        def call(self, given: Any, training: bool = False) -> Any:
            reach = self._reach.value
            if training:
                seen = tf.stop_gradient(tf.maximum(tf.stack([-tf.reduce_min(given), tf.reduce_max(given)]), 0.0))
                self._reach.assign(tf.where(reach > 0, RANGE_DECAY * reach + (1 - RANGE_DECAY) * seen, seen))
            return _round_activations(given, reach)

    return QuantizedTensor


def _round_activations(values: Any, reach: Any) -> Any:
    """Round values to 256 levels over a range; as they are where the range is empty."""
    tf: Any = load_tensorflow()
    is_known = tf.reduce_sum(reach) > 0
    low, high = tf.unstack(tf.where(is_known, tf.stack([-reach[0], reach[1]]), tf.constant([0.0, 1.0])))
    # The gradient of `fake_quant_with_min_max_vars` is not deterministic on a GPU; that of a clip to its ends is.
    lowest, highest = tf.unstack(tf.quantization.fake_quant_with_min_max_vars(tf.stack([low, high]), low, high))
    clipped = tf.clip_by_value(values, lowest, highest)
    rounded = clipped + tf.stop_gradient(tf.quantization.fake_quant_with_min_max_vars(values, low, high) - clipped)
    return tf.where(is_known, rounded, values)
