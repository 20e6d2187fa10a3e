"""Predictions for tests of metrics."""

import numpy as np
from scipy.special import log_softmax, softmax

from benchmark.metrics.typing import Array, Labels


def log_of(*p_NK: list[float]) -> Array:
    """Log-probabilities, -inf where a probability is 0."""
    with np.errstate(divide="ignore"):
        return np.log(np.array(p_NK))


def random_predictions(num_images: int, num_classes: int, sharpness: float, seed: int = 0) -> tuple[Array, Labels]:
    """Log-probabilities that are `sharpness` times too sharp, and labels."""
    rng = np.random.default_rng(seed)
    z_NK = rng.normal(size=(num_images, num_classes)) * 2
    labels_N = np.array([rng.choice(num_classes, p=p_K) for p_K in softmax(z_NK, axis=-1)])
    return log_softmax(sharpness * z_NK, axis=-1), labels_N


def confidence_and_hits(log_p_NK: Array, labels_N: Labels) -> tuple[Array, Array]:
    """What metrics of confidence take."""
    return np.exp(log_p_NK.max(-1)), log_p_NK.argmax(-1) == labels_N


def random_members(
    num_members: int, num_images: int, num_classes: int, seed: int = 0, dtype: type = np.float32
) -> tuple[Array, Labels]:
    """Logits of members that share a part of what they know, and labels."""
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, num_classes, num_images)
    z_MNK = rng.normal(size=(num_images, num_classes)) + rng.normal(size=(num_members, num_images, num_classes))
    z_MNK[:, np.arange(num_images), labels_N] += 1.5
    return (2 * z_MNK).astype(dtype), labels_N
