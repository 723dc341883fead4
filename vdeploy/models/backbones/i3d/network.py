"""I3D as one Keras graph from RGB pixels to features, batch normalisation folded into the convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras

if TYPE_CHECKING:
    import keras

__all__ = ["CONVOLUTIONS", "FEATURES", "FEATURE_CONVOLUTIONS", "MODULES", "TEMPORAL_STRIDE", "build_network"]

FEATURES = 1024
"""Features of a segment, F: the channels of Mixed_5c."""

TEMPORAL_STRIDE = 8
"""Frames that one step of the output stands for."""

_STAGES: tuple[tuple[tuple[str, tuple[int, ...], tuple[int, ...]] | None, dict[str, tuple[int, ...]]], ...] = (
    (
        None,
        {"Mixed_3b": (64, 96, 128, 16, 32, 32), "Mixed_3c": (128, 128, 192, 32, 96, 64)},
    ),
    (
        ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
        {
            "Mixed_4b": (192, 96, 208, 16, 48, 64),
            "Mixed_4c": (160, 112, 224, 24, 64, 64),
            "Mixed_4d": (128, 128, 256, 24, 64, 64),
            "Mixed_4e": (112, 144, 288, 32, 64, 64),
            "Mixed_4f": (256, 160, 320, 32, 128, 128),
        },
    ),
    (
        ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
        {"Mixed_5b": (256, 160, 320, 32, 128, 128), "Mixed_5c": (384, 192, 384, 48, 128, 128)},
    ),
)
"""The pool before a group of inception modules, and the modules' channels: branch 0, branches 1 and 2 with their
reductions first, branch 3."""


MODULES = tuple(name for _, modules in _STAGES for name in modules)
"""The inception modules, from the first to the last."""

_UNITS = (
    "Branch_0.Conv3d_0a_1x1",
    "Branch_1.Conv3d_0a_1x1",
    "Branch_1.Conv3d_0b_3x3",
    "Branch_2.Conv3d_0a_1x1",
    "Branch_2.Conv3d_0b_3x3",
    "Branch_3.Conv3d_0b_1x1",
)
"""The convolutions of an inception module, in the order of its channels."""

CONVOLUTIONS = {
    "Conv3d_1a_7x7": 64,
    "Conv3d_2b_1x1": 64,
    "Conv3d_2c_3x3": 192,
    **{
        f"{module}.{unit}": width
        for _, modules in _STAGES
        for module, widths in modules.items()
        for unit, width in zip(_UNITS, widths, strict=True)
    },
}
"""Output channels of each convolution."""

FEATURE_CONVOLUTIONS = tuple(f"{MODULES[-1]}.{_UNITS[number]}" for number in (0, 2, 4, 5))
"""The convolutions whose outputs are the features."""


def build_network(frames: int, size: int, *, widths: Mapping[str, int] = CONVOLUTIONS, classes: int = 0) -> keras.Model:
    """I3D's RGB stream (Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", figure 3) up to Mixed_5c.

    Convolutions and pools have TensorFlow's SAME padding in time and space, which is asymmetric where the stride is 2.
    Layers are named as in the published checkpoint, with dots for slashes.

    Args:
        frames: Frames of a clip, T; a multiple of 8.
        size: Height and width of a frame in pixels.
        widths: Output channels of each convolution.
        classes: With the published classifier's logits for so many classes instead of features, to check weights with.

    Returns:
        A model ``pixels float32[B, T, size, size, 3]`` (RGB, 0 to 255) -> ``features float32[B, T / 8, 1024]``, or
        ``logits float32[B, classes]``.
    """
    keras: Any = load_keras()
    layers = keras.layers
    inputs = keras.Input((frames, size, size, 3), name="pixels", dtype="float32")
    x = layers.Rescaling(2 / 255, offset=-1, name="scale")(inputs)
    x = _unit(layers, x, widths, "Conv3d_1a_7x7", 7, strides=2)
    x = _pool(layers, x, (1, 3, 3), (1, 2, 2), "MaxPool3d_2a_3x3")
    x = _unit(layers, x, widths, "Conv3d_2b_1x1", 1)
    x = _unit(layers, x, widths, "Conv3d_2c_3x3", 3)
    x = _pool(layers, x, (1, 3, 3), (1, 2, 2), "MaxPool3d_3a_3x3")
    for pool, modules in _STAGES:
        if pool:
            name, window, strides = pool
            x = _pool(layers, x, window, strides, name)
        for name in modules:
            x = _inception(layers, x, widths, name)
    if not classes:
        return keras.Model(inputs, keras.ops.mean(x, axis=(2, 3)), name="i3d")
    x = layers.AveragePooling3D((2, *x.shape[2:4]), strides=1, name="average")(x)
    x = layers.Conv3D(classes, 1, name="Logits.Conv3d_0c_1x1")(x)
    return keras.Model(inputs, keras.ops.mean(x, axis=(1, 2, 3)), name="i3d")


def _unit(layers: ModuleType, x: Any, widths: Mapping[str, int], name: str, kernel: int, strides: int = 1) -> Any:
    """A convolution and a ReLU; random weights keep the scale of what goes through (He et al. 2015)."""
    return layers.Conv3D(
        widths[name],
        kernel,
        strides=strides,
        padding="same",
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _pool(layers: ModuleType, x: Any, window: tuple[int, ...], strides: tuple[int, ...], name: str) -> Any:
    return layers.MaxPooling3D(window, strides, padding="same", name=name)(x)


def _inception(layers: ModuleType, x: Any, widths: Mapping[str, int], module: str) -> Any:
    first = _unit(layers, x, widths, f"{module}.Branch_0.Conv3d_0a_1x1", 1)
    second = _unit(layers, x, widths, f"{module}.Branch_1.Conv3d_0a_1x1", 1)
    second = _unit(layers, second, widths, f"{module}.Branch_1.Conv3d_0b_3x3", 3)
    third = _unit(layers, x, widths, f"{module}.Branch_2.Conv3d_0a_1x1", 1)
    third = _unit(layers, third, widths, f"{module}.Branch_2.Conv3d_0b_3x3", 3)
    fourth = _pool(layers, x, (3, 3, 3), (1, 1, 1), f"{module}.Branch_3.MaxPool3d_0a_3x3")
    fourth = _unit(layers, fourth, widths, f"{module}.Branch_3.Conv3d_0b_1x1", 1)
    return layers.Concatenate(name=module)([first, second, third, fourth])
