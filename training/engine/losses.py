"""The focal loss, with one alpha for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vdeploy.core.lazy_imports import load_keras

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["balanced_weights", "class_weights", "effective_weights", "focal_alpha", "focal_loss"]


def focal_loss(alpha: Sequence[float], gamma: float, label_smoothing: float = 0.0) -> Any:
    """Focal loss over two softmax probabilities, per clip and not reduced.

    FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), where t is the true class (Lin et al. 2017, "Focal Loss for Dense
    Object Detection", eq. 5). At gamma = 0 and alpha = 1 it is cross-entropy. Keras' implementation follows the paper
    and takes an alpha for each class, so it is used as it is.

    Args:
        alpha: Weight of each class: (non-violent, violent).
        gamma: Focusing parameter; 2 in the paper.
        label_smoothing: Share of the label spread over both classes (Szegedy et al. 2016, sec. 7).

    Returns:
        A Keras loss: one-hot labels ``[B, 2]`` and probabilities ``[B, 2]`` to losses ``[B]``.
    """
    keras = load_keras()
    return keras.losses.CategoricalFocalCrossentropy(
        alpha=list(alpha), gamma=gamma, label_smoothing=label_smoothing, reduction="none"
    )


def balanced_weights(labels: npt.NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Weights in inverse proportion to how often a class occurs: N / (2 N_c), which average to 1 over the clips.

    Args:
        labels: 0 or 1, ``[N]``; both occur.
    """
    counts = np.bincount(labels, minlength=2)
    weights = labels.size / (2.0 * counts)
    return float(weights[0]), float(weights[1])


def focal_alpha(
    setting: Literal["balanced"] | tuple[float, float], labels: npt.NDArray[np.integer[Any]]
) -> tuple[float, float]:
    """Alpha of each class as ``loss.alpha`` of a recipe asks for it; balanced ones add up to 1.

    Args:
        setting: The value of the key.
        labels: 0 or 1, ``[N]``; both occur.
    """
    if setting != "balanced":
        return setting
    negative, positive = balanced_weights(labels)
    return negative / (negative + positive), positive / (negative + positive)


def effective_weights(labels: npt.NDArray[np.integer[Any]], beta: float) -> tuple[float, float]:
    """Weights in inverse proportion to the effective number of clips of a class, which add up to 2.

    E_n = (1 - beta^n) / (1 - beta) for n clips (Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of
    Samples", eq. 2), and the weights are normalised as in sec. 4 of the paper. At beta = 0 both are 1; towards beta = 1
    they are in the proportion of `balanced_weights`.

    Args:
        labels: 0 or 1, ``[N]``; both occur.
        beta: From 0 to below 1.
    """
    inverse = (1 - beta) / -np.expm1(np.bincount(labels, minlength=2) * np.log(beta)) if beta else np.ones(2)
    weights = 2 * inverse / inverse.sum()
    return float(weights[0]), float(weights[1])


def class_weights(
    setting: Literal["balanced", "none"] | float, labels: npt.NDArray[np.integer[Any]]
) -> tuple[float, float]:
    """Weight of each class as ``loss.class_weights`` of a recipe asks for it.

    Args:
        setting: The value of the key; a number is beta of `effective_weights`.
        labels: 0 or 1, ``[N]``; both occur.
    """
    if setting == "none":
        return 1.0, 1.0
    return balanced_weights(labels) if setting == "balanced" else effective_weights(labels, float(setting))
