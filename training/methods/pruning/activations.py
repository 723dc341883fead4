"""What the original network and the pruned one compute of some frames, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.methods.pruning.channel_graph import ChannelGraph
from vdeploy.core.lazy_imports import load_tensorflow

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Layers = dict[str, tuple[Floats, Floats]]

__all__ = ["Activations", "convolve"]


class Activations:
    """Outputs of layers in both networks, as far as a layer that follows still reads them.

    Args:
        graph: The network.
        pixels: ``float32[N, H, W, 3]``, or ``float32[N, T, H, W, 3]``.

    Attributes:
        original: Outputs in the original network by layer.
        pruned: Those in the network pruned so far. Channels that are made by convolutions which have lost none yet are
            all there.
    """

    def __init__(self, graph: ChannelGraph, pixels: Floats) -> None:
        self._graph = graph
        self.original = {graph.pixels: pixels}
        self.pruned = {graph.pixels: pixels}
        self._done = {graph.pixels}

    def advance(self, names: Sequence[str], original: Layers, pruned: Layers) -> None:
        """Compute layers, and what they need; forget what nothing else reads.

        Args:
            names: The layers.
            original: Kernel and bias of each convolution.
            pruned: The same of the network pruned so far.
        """
        for name in self._graph.above(names):
            if name in self._done:
                continue
            for values, weights in ((self.original, original), (self.pruned, pruned)):
                values[name] = self._compute(name, values, weights)
            self._done.add(name)
            for other in set(self.original) - set(names):
                if self._graph.readers[other] <= self._done:
                    del self.original[other], self.pruned[other]

    def keep(self, producers: tuple[str, ...], kept: npt.NDArray[np.int64]) -> None:
        """Remove channels in the pruned network.

        Args:
            producers: The convolutions that make the channels.
            kept: Numbers of the channels that stay.
        """
        for name in self.pruned:
            if self._graph.sources[name] == producers:
                self.pruned[name] = self.pruned[name][..., kept]

    def _compute(self, name: str, values: Mapping[str, Floats], weights: Layers) -> Floats:
        layer, inputs = self._graph.layers[name], [values[each] for each in self._graph.inputs[name]]
        if name in weights:
            x = convolve(inputs[0], weights[name], layer.strides)
            return np.maximum(x, 0, out=x)
        result: Floats = layer(inputs if len(inputs) > 1 else inputs[0]).numpy()
        return result


def convolve(x: Floats, layer: tuple[Floats, Floats], strides: int | Sequence[int] = 1) -> Floats:
    """A convolution without its activation.

    Args:
        x: ``float32[N, ..., C]``.
        layer: Kernel ``float32[..., C, O]`` and bias ``float32[O]``.
        strides: Steps between its positions.
    """
    tf: Any = load_tensorflow()
    result: Floats = tf.nn.bias_add(tf.nn.convolution(x, layer[0], strides, "SAME"), layer[1]).numpy()
    return result
