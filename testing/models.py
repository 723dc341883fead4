"""Models as tests and benchmarks build them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdeploy.models.backbones.vgg19.feature_layers import Layer
from vdeploy.models.backbones.vgg19.model import VGG19, VGG19Settings
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.heads.lstm.model import LSTM, LSTMSettings
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec

if TYPE_CHECKING:
    import keras

__all__ = ["build_lstm", "vgg19_extractor"]


def vgg19_extractor(
    layer: Layer, weights: Weights, *, size: int = 224, seed: int = 0, channels: tuple[int, ...] = ()
) -> FeatureExtractor:
    """VGG19 up to a layer."""
    settings = VGG19Settings(layer=layer, channels=channels)
    return FeatureExtractor(VGG19(settings), weights, ClipSpec(size=size), seed=seed)


def build_lstm(frames: int, dim: int, settings: LSTMSettings) -> keras.Model:
    """The Keras model of an LSTM head."""
    return LSTM(settings).build((frames, dim))
