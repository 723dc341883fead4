"""A backbone's network in two parts: the trunk, and the tail of its last blocks."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras

if TYPE_CHECKING:
    import keras

__all__ = ["Split", "first_layer", "layers_by_block", "split_network"]


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A network and its two parts, which share its layers.

    Attributes:
        network: The network, without what a region of the frame puts around it.
        trunk: From pixels, as the network takes them, to flat activations: ``float32[N, D]``, or ``float32[B, s, D]``
            for granularity ``"clip"``.
        tail: From these to features.
    """

    network: keras.Model
    trunk: keras.Model
    tail: keras.Model


def split_network(network: keras.Model, block: str) -> Split:
    """Split a network before a block, through which everything goes.

    Args:
        network: ``pixels float32[N, H, W, 3]`` or ``float32[B, T, H, W, 3]`` to features.
        block: Its name, which the names of its layers begin with.
    """
    keras: Any = load_keras()
    cut = first_layer(network, block).input
    keep = 1 if len(cut.shape) == 5 else 0  # the axis of time
    shape = cut.shape[1:]
    flat = keras.ops.reshape(cut, (-1, *shape[:keep], math.prod(shape[keep:])))
    given = keras.Input((*shape[:keep], math.prod(shape[keep:])), name="activations")
    tail = keras.Model(cut, network.output)
    return Split(
        network,
        keras.Model(network.input, flat),
        keras.Model(given, tail(keras.ops.reshape(given, (-1, *shape)))),
    )


def first_layer(network: keras.Model, block: str) -> keras.Layer:
    """The layer that a block begins with.

    Args:
        network: The network.
        block: Its name, which the names of its layers begin with.
    """
    return next(layer for layer in network.layers if _is_of(layer.name, block))


def layers_by_block(network: keras.Model, blocks: tuple[str, ...]) -> dict[str, list[keras.Layer]]:
    """The layers with weights of each block, in their order.

    Args:
        network: The network.
        blocks: Names of its blocks.
    """
    return {
        block: [layer for layer in network.layers if layer.weights and _is_of(layer.name, block)] for block in blocks
    }


def _is_of(layer: str, block: str) -> bool:
    return layer == block or layer.startswith((f"{block}.", f"{block}_"))
