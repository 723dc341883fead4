"""VGG19's ImageNet weights: found in Keras' cache or fetched into it, and never used before their hash was checked."""

from __future__ import annotations

from vdeploy.models.weights.cache import fetch, keras_cache
from vdeploy.models.weights.find import Weights, find_weights
from vdeploy.models.weights.published import FILES, Package, WeightsFile

__all__ = ["FILES", "Package", "Weights", "WeightsFile", "fetch", "find_weights", "keras_cache"]
