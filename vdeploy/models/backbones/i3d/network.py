"""I3D as one Keras graph from RGB pixels to features, batch normalisation folded into the convolutions."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras

if TYPE_CHECKING:
    import keras

__all__ = ["FEATURES", "MODULES", "TEMPORAL_STRIDE", "build_network"]

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


def build_network(frames: int, size: int, *, classes: int = 0) -> keras.Model:
    """I3D's RGB stream (Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", figure 3) up to Mixed_5c.

    Convolutions and pools have TensorFlow's SAME padding in time and space, which is asymmetric where the stride is 2.
    Layers are named as in the published checkpoint, with dots for slashes.

    Args:
        frames: Frames of a clip, T; a multiple of 8.
        size: Height and width of a frame in pixels.
        classes: With the published classifier's logits for so many classes instead of features, to check weights with.

    Returns:
        A model ``pixels float32[B, T, size, size, 3]`` (RGB, 0 to 255) -> ``features float32[B, T / 8, 1024]``, or
        ``logits float32[B, classes]``.
    """
    keras: Any = load_keras()
    layers = keras.layers
    inputs = keras.Input((frames, size, size, 3), name="pixels", dtype="float32")
    x = layers.Rescaling(2 / 255, offset=-1, name="scale")(inputs)
    x = _unit(layers, x, 64, 7, "Conv3d_1a_7x7", strides=2)
    x = _pool(layers, x, (1, 3, 3), (1, 2, 2), "MaxPool3d_2a_3x3")
    x = _unit(layers, x, 64, 1, "Conv3d_2b_1x1")
    x = _unit(layers, x, 192, 3, "Conv3d_2c_3x3")
    x = _pool(layers, x, (1, 3, 3), (1, 2, 2), "MaxPool3d_3a_3x3")
    for pool, modules in _STAGES:
        if pool:
            name, window, strides = pool
            x = _pool(layers, x, window, strides, name)
        for name, channels in modules.items():
            x = _inception(layers, x, channels, name)
    if not classes:
        return keras.Model(inputs, keras.ops.mean(x, axis=(2, 3)), name="i3d")
    x = layers.AveragePooling3D((2, *x.shape[2:4]), strides=1, name="average")(x)
    x = layers.Conv3D(classes, 1, name="Logits.Conv3d_0c_1x1")(x)
    return keras.Model(inputs, keras.ops.mean(x, axis=(1, 2, 3)), name="i3d")


def _unit(layers: ModuleType, x: Any, channels: int, kernel: int, name: str, strides: int = 1) -> Any:
    """A convolution and a ReLU; random weights keep the scale of what goes through (He et al. 2015)."""
    return layers.Conv3D(
        channels,
        kernel,
        strides=strides,
        padding="same",
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _pool(layers: ModuleType, x: Any, window: tuple[int, ...], strides: tuple[int, ...], name: str) -> Any:
    return layers.MaxPooling3D(window, strides, padding="same", name=name)(x)


def _inception(layers: ModuleType, x: Any, channels: tuple[int, ...], name: str) -> Any:
    direct, reduced_1, branch_1, reduced_2, branch_2, pooled = channels
    first = _unit(layers, x, direct, 1, f"{name}.Branch_0.Conv3d_0a_1x1")
    second = _unit(layers, x, reduced_1, 1, f"{name}.Branch_1.Conv3d_0a_1x1")
    second = _unit(layers, second, branch_1, 3, f"{name}.Branch_1.Conv3d_0b_3x3")
    third = _unit(layers, x, reduced_2, 1, f"{name}.Branch_2.Conv3d_0a_1x1")
    third = _unit(layers, third, branch_2, 3, f"{name}.Branch_2.Conv3d_0b_3x3")
    fourth = _pool(layers, x, (3, 3, 3), (1, 1, 1), f"{name}.Branch_3.MaxPool3d_0a_3x3")
    fourth = _unit(layers, fourth, pooled, 1, f"{name}.Branch_3.Conv3d_0b_1x1")
    return layers.Concatenate(name=name)([first, second, third, fourth])
