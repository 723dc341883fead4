"""VGG19 (Simonyan and Zisserman 2015, configuration E) up to a layer, frame by frame."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vdeploy.core.errors import WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.backbones.narrow import NarrowSettings, refuse_whole_weights
from vdeploy.models.backbones.vgg19.feature_layers import (
    BLOCK_SCALES,
    CONVOLUTIONS,
    DIMENSIONS,
    POOLED_BLOCKS,
    Layer,
)
from vdeploy.models.backbones.vgg19.weights import find_weights
from vdeploy.models.base import Backbone, BackboneSettings
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["IMAGENET_MEAN_RGB", "VGG19", "VGG19Settings"]

IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)
"""Mean of the ImageNet training images per channel, as VGG was trained with (Simonyan and Zisserman 2015, sec. 2.1)."""


class VGG19Settings(NarrowSettings):
    """Settings of VGG19.

    Attributes:
        layer: ``"avg"``: the global average of the last pooled feature maps, F = 512;
            ``"avg45"``: the global averages of the last two blocks' pooled feature maps, alike in scale, F = 1024;
            ``"fc2"``: the second fully connected layer, F = 4096.
        weights: ``"imagenet"``, ``"random"``, or the path of an HDF5 file.
        channels: Output channels of the 16 convolutions, where they are fewer than VGG19's; see `NarrowSettings`.
    """

    name: Literal["vgg19"] = "vgg19"
    layer: Layer = "avg"
    weights: str = "imagenet"
    convolutions: ClassVar = CONVOLUTIONS

    @property
    def features(self) -> tuple[str, ...]:
        """The last convolutions of the blocks whose maps are averaged."""
        return tuple(f"{block}_conv4" for block in POOLED_BLOCKS.get(self.layer, ()))


class VGG19(Backbone[VGG19Settings]):
    """VGG19 as a backbone.

    The weights expect BGR with the ImageNet mean subtracted. Frames come in as RGB, so the mean is subtracted in RGB
    order and the first convolution's kernel is reversed once instead of every frame.
    """

    name: ClassVar[str] = "vgg19"
    title: ClassVar[str] = "VGG19"
    settings_type: ClassVar[type[BackboneSettings]] = VGG19Settings
    lowerings: ClassVar = {
        "onnx": "vdeploy.export.lowering.vgg19_onnx:build_vgg19_graph",
        "tensorflow": "vdeploy.export.lowering.vgg19_tensorflow:VGG19Graph",
    }

    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return (T, F)."""
        return frames, DIMENSIONS[self.settings.layer]

    def find_weights(self, source: str | None = None) -> Weights:
        """Find the weights; see `Backbone.find_weights`."""
        return find_weights(source or self.settings.weights, self.settings.layer)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The five blocks of convolutions, and the fully connected layers where features are taken from those."""
        connected = () if self.settings.layer in POOLED_BLOCKS else ("fc1", "fc2")
        return ("block1", "block2", "block3", "block4", "block5", *connected)

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network; see `Backbone.build`."""
        if self.settings.channels:
            return _narrow_network(load_keras(), self.settings, weights, spec.size)
        return _network(load_keras(), self.settings.layer, weights, spec.size)

    def check(self, spec: ClipSpec) -> None:
        """Refuse frames that the fully connected layers cannot take."""
        if self.settings.layer not in POOLED_BLOCKS and spec.size != 224:
            raise WeightsError(
                f"the {self.settings.layer} layer of VGG19 needs frames of 224 pixels, not {spec.size}",
                "use --features avg",
            )

    @property
    def cache_key(self) -> str:
        """The layer, so that stores of version 0.1 stay valid, and other channels than VGG19's."""
        return " ".join([self.settings.layer, *map(str, self.settings.channels)])


def _network(keras: ModuleType, layer: Layer, weights: Weights, size: int) -> Any:
    """VGG19 that takes RGB, ``float32[N, H, W, 3]``, 0 to 255, and gives ``float32[N, F]``."""
    vgg19, blocks = keras.applications.VGG19, POOLED_BLOCKS.get(layer)
    pixels, centred = _inputs(keras, size)
    path = str(weights.path) if weights.path else None
    try:
        with warnings.catch_warnings():
            # Keras only warns when it leaves layers as they were because a file lacks them.
            warnings.simplefilter("error", UserWarning)
            base = vgg19(include_top=not blocks, weights=path, input_tensor=centred)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise WeightsError(
            f"{path} holds no VGG19 weights for --features {layer} ({error})",
            "fc2 takes the file with the fully connected layers, the other layers the file without",
        ) from error
    pooled = {block: base.get_layer(f"{block}_pool").output for block in blocks or ()}
    model = keras.Model(pixels, _averages(keras, pooled, blocks) if blocks else base.get_layer(layer).output)
    first = model.get_layer("block1_conv1")
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], bias])
    return model


def _narrow_network(keras: ModuleType, settings: VGG19Settings, weights: Weights, size: int) -> Any:
    """The same network with other widths and random weights; its first convolution takes RGB."""
    refuse_whole_weights(VGG19.title, weights.path)
    pixels, x = _inputs(keras, size)
    pooled = {}
    for block, names in itertools.groupby(settings.widths, lambda name: name.partition("_")[0]):
        for name in names:
            x = keras.layers.Conv2D(settings.widths[name], 3, padding="same", activation="relu", name=name)(x)
        pooled[block] = x = keras.layers.MaxPooling2D(2, name=f"{block}_pool")(x)
    return keras.Model(pixels, _averages(keras, pooled, POOLED_BLOCKS[settings.layer]))


def _inputs(keras: ModuleType, size: int) -> tuple[Any, Any]:
    """Pixels, and the same less the ImageNet mean."""
    pixels = keras.Input((size, size, 3), name="pixels", dtype="float32")
    offsets = [-value for value in IMAGENET_MEAN_RGB]
    return pixels, keras.layers.Rescaling(1.0, offset=offsets, name="centred")(pixels)


def _averages(keras: ModuleType, pooled: Mapping[str, Any], blocks: Sequence[str]) -> Any:
    """The averages over all positions of blocks' pooled feature maps, alike in scale, one after the other."""
    layers = keras.layers
    averages = []
    for block in blocks:
        average = layers.GlobalAveragePooling2D(name=f"{block}_average")(pooled[block])
        if block in BLOCK_SCALES:
            average = layers.Rescaling(BLOCK_SCALES[block], name=f"{block}_scaled")(average)
        averages.append(average)
    return averages[0] if len(blocks) == 1 else layers.Concatenate(name="averages")(averages)
