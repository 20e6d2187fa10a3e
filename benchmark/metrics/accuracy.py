"""Shares of images classified correctly."""

import numpy as np
import numpy.typing as npt

from benchmark.metrics.typing import Array, Labels

ROUNDING = 1e-14
"""What sums over classes and members leave behind in logarithms of probabilities, and relative to scores above 1."""


def predicted_class(scores_NK: Array) -> npt.NDArray[np.intp]:
    """The class with the highest score; of those that differ from it by rounding alone the first."""
    class_N = scores_NK.argmax(axis=-1)
    highest_N1 = np.take_along_axis(scores_NK, class_N[:, None], axis=-1)
    highest_NK = scores_NK >= highest_N1 - _rounding(highest_N1)
    return class_N if np.count_nonzero(highest_NK) == len(class_N) else highest_NK.argmax(axis=-1)


def accuracy(scores_NK: Array, labels_N: Labels) -> float:
    """Share of images whose predicted class is the label: 1/N Σ_n [predicted_class(s_n) = y_n]."""
    return float((predicted_class(scores_NK) == labels_N).mean())


def top_k_accuracy(scores_NK: Array, labels_N: Labels, k: int = 5) -> float:
    """Share of images whose label has one of the k highest scores (Russakovsky et al. 2015, k = 5); 1 where K ≤ k.

    1/N Σ_n [ #{j : s_nj > s_ny} + #{j < y : s_nj = s_ny} < k ]: of scores that differ by rounding alone the first
    classes count, as in accuracy.
    """
    label_N1 = np.take_along_axis(scores_NK, labels_N[:, None], axis=-1)
    rounding_N1 = _rounding(label_N1)
    before_NK = np.arange(scores_NK.shape[1]) < labels_N[:, None]
    ahead_NK = np.where(before_NK, scores_NK >= label_N1 - rounding_N1, scores_NK > label_N1 + rounding_N1)
    return float((np.count_nonzero(ahead_NK, axis=-1) < k).mean())


def _rounding(scores: Array) -> Array:
    return ROUNDING * np.maximum(np.abs(scores), 1)
