"""Selective classification: how risky the predictions are that a network is surest of.

Each takes the confidence of N images and whether they are classified correctly. Images are accepted from the highest
confidence on; those of equal confidence in random order, of which the mean is taken (see ranking.rank).
"""

import numpy as np

from benchmark.metrics.ranking import rank
from benchmark.metrics.typing import Array, Correct

COVERAGE_PERCENT = 80


def aurc(confidence_N: Array, correct_N: Correct) -> float:
    """Area under the risk-coverage curve: 1/N Σ_i errors among the i surest images / i (Geifman et al. 2019).

    The plain mean over the coverages 1/N, 2/N, …, 1. Others take a trapezoid rule or leave the smallest coverages out,
    which changes the last digits.
    """
    _, right_N = rank(confidence_N, correct_N)
    return float((np.cumsum(1 - right_N) / np.arange(1, len(right_N) + 1)).mean())


def augrc(confidence_N: Array, correct_N: Correct) -> float:
    """Area under the generalised risk-coverage curve: ∫ P(wrong and accepted) d coverage (Traub et al. 2024).

    The curve joins (i/N, errors among the i surest images / N) for i = 0, …, N by straight lines, so that the area is
    (1 - AUROC of confidence for right against wrong) · a(1 - a) + (1 - a)²/2 with accuracy a: the mean risk of a
    silent failure, between 0 and 1/2.
    """
    _, right_N = rank(confidence_N, correct_N)
    num_images = len(right_N)
    accepted_N = num_images - np.arange(num_images) - 0.5
    return float((1 - right_N) @ accepted_N / num_images**2)


def accuracy_at_80(confidence_N: Array, correct_N: Correct) -> float:
    """Accuracy of the ⌈0.8 N⌉ surest images: selective accuracy at 80 % coverage (Geifman & El-Yaniv 2017)."""
    _, right_N = rank(confidence_N, correct_N)
    return float(right_N[: -(-COVERAGE_PERCENT * len(right_N) // 100)].mean())
