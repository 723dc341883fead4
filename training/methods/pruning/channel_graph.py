"""Which convolutions of a network read which channels, found in its Keras graph."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras

if TYPE_CHECKING:
    import keras

__all__ = ["ChannelGraph", "Group"]


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that are removed together.

    Attributes:
        producers: The convolutions that make them, in the order of the channels.
        consumers: The convolutions that read them.
    """

    producers: tuple[str, ...]
    consumers: tuple[str, ...]


class ChannelGraph:
    """The convolutions of a network, and what is between them.

    Pools act channel by channel, and concatenations put channels one after the other: what a convolution reads are
    outputs of convolutions, or pixels. Convolutions that read outputs have odd kernels, stride 1 and SAME padding.

    Args:
        network: ``pixels`` to features; what is between its convolutions are such operations.

    Attributes:
        pixels: Name of the input.
        convolutions: The convolutions by name, in the order of computation.
        layers: The convolutions, and what is before them, in the order of computation.
        inputs: Names of the layers that each of these takes.
        readers: Names of those of these that take it.
        sources: The convolutions whose outputs are the channels of each layer's output, in their order.
        features: The convolutions whose outputs are the features.
    """

    def __init__(self, network: keras.Model) -> None:
        keras: Any = load_keras()
        kinds = (keras.layers.Conv2D, keras.layers.Conv3D)
        made: dict[int, str] = {}
        inputs: dict[str, tuple[str, ...]] = {}
        self.sources: dict[str, tuple[str, ...]] = {}
        for operation in network.operations:
            name, is_input = operation.name, isinstance(operation, keras.layers.InputLayer)
            taken = () if is_input else operation.input
            inputs[name] = tuple(made[id(tensor)] for tensor in (taken if isinstance(taken, list | tuple) else [taken]))
            made[id(operation.output)] = name
            passed = tuple(source for each in inputs[name] for source in self.sources[each])
            self.sources[name] = (name,) if isinstance(operation, kinds) else passed
        self.features = self.sources[made[id(network.output)]]
        self.pixels = made[id(network.input)]
        self.convolutions: dict[str, Any] = {layer.name: layer for layer in network.layers if isinstance(layer, kinds)}
        needed = set(_above(inputs, list(self.convolutions)))
        self.layers: dict[str, Any] = {layer.name: layer for layer in network.layers if layer.name in needed}
        self.inputs = {name: inputs[name] for name in self.layers}
        self.readers = {name: {other for other in self.layers if name in inputs[other]} for name in self.layers}

    @property
    def widths(self) -> dict[str, int]:
        """Output channels of each convolution."""
        return {name: layer.filters for name, layer in self.convolutions.items()}

    @property
    def per_clip(self) -> int:
        """Frames that the network takes at once, T; 1 where it looks at single frames."""
        shape = self.layers[self.pixels].output.shape
        return int(shape[1]) if len(shape) == 5 else 1

    @property
    def groups(self) -> list[Group]:
        """All channels that convolutions read, but for those of pixels, in the order of computation."""
        consumers: dict[tuple[str, ...], list[str]] = {}
        for name in self.convolutions:
            if producers := self.sources[self.read_by(name)]:
                consumers.setdefault(producers, []).append(name)
        return [Group(producers, tuple(names)) for producers, names in consumers.items()]

    def read_by(self, name: str) -> str:
        """The layer whose output a convolution reads."""
        return self.inputs[name][0]

    def above(self, names: Sequence[str]) -> Iterator[str]:
        """Layers and all that they need, in the order of computation."""
        needed = set(_above(self.inputs, names))
        return (name for name in self.layers if name in needed)

    def operations(self, widths: Mapping[str, int]) -> int:
        """Multiply-adds of all convolutions for one clip, or for one frame.

        Args:
            widths: Output channels of each convolution.
        """
        total = 0
        for name, layer in self.convolutions.items():
            producers = self.sources[self.read_by(name)]
            channels = sum(widths[each] for each in producers) if producers else layer.input.shape[-1]
            total += math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel_size) * channels * widths[name]
        return total


def _above(inputs: Mapping[str, Sequence[str]], names: Sequence[str]) -> Iterator[str]:
    """Names and all that they need, each at least once."""
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += inputs[name]
            yield name
