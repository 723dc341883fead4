"""The focal loss against the paper's formula."""

from __future__ import annotations

import numpy as np
import pytest

from training.engine.losses import balanced_weights, focal_loss


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([1, 1], 64).clip(1e-4, 1 - 1e-4)
    return np.eye(2)[random.integers(0, 2, 64)], probabilities / probabilities.sum(1, keepdims=True)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [(1.0, 1.0), (0.25, 0.75), (0.6, 0.1)])
def test_equation_5_of_lin_et_al(
    batch: tuple[np.ndarray, np.ndarray], gamma: float, alpha: tuple[float, float]
) -> None:
    labels, probabilities = batch
    p_t = (labels * probabilities).sum(1)
    alpha_t = (labels * np.array(alpha)).sum(1)
    expected = -alpha_t * (1 - p_t) ** gamma * np.log(p_t)
    actual = np.asarray(focal_loss(alpha, gamma)(labels, probabilities))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def test_without_focusing_it_is_cross_entropy(batch: tuple[np.ndarray, np.ndarray]) -> None:
    from vdeploy.core.lazy_imports import load_keras

    labels, probabilities = batch
    for smoothing in (0.0, 0.1):
        entropy = load_keras().losses.CategoricalCrossentropy(label_smoothing=smoothing, reduction="none")
        np.testing.assert_allclose(
            np.asarray(focal_loss((1, 1), 0, smoothing)(labels, probabilities)),
            np.asarray(entropy(labels, probabilities)),
            rtol=1e-6,
        )


def test_an_easy_clip_counts_a_hundredth() -> None:
    """At gamma 2, p_t = 0.9 the loss is 100 times lower than cross-entropy (Lin et al. 2017, sec. 3.2)."""
    labels, probabilities = np.array([[0.0, 1.0]]), np.array([[0.1, 0.9]])
    ratio = float(focal_loss((1, 1), 0)(labels, probabilities)[0] / focal_loss((1, 1), 2)(labels, probabilities)[0])
    assert ratio == pytest.approx(100, rel=1e-4)


def test_label_smoothing_spreads_the_label() -> None:
    labels, probabilities = np.array([[0.0, 1.0]]), np.array([[0.2, 0.8]])
    expected = -(0.05 * 0.8**2 * np.log(0.2) + 0.95 * 0.2**2 * np.log(0.8))
    assert float(focal_loss((1, 1), 2, 0.1)(labels, probabilities)[0]) == pytest.approx(expected, rel=1e-5)


def test_balanced_weights_make_the_classes_count_the_same() -> None:
    labels = np.array([0] * 78 + [1] * 22)
    negative, positive = balanced_weights(labels)
    assert 78 * negative == pytest.approx(22 * positive)
    assert (78 * negative + 22 * positive) / 100 == pytest.approx(1)
