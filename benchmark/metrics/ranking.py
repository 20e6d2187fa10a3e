"""Orders of scores. Scores that differ by rounding alone are equal: which of two members was added first, or which of two
equal logits, is no reason to rank one image above another."""

import numpy as np
import numpy.typing as npt

from benchmark.metrics.typing import Array, Correct

ROUNDING = 1e-15
"""Relative: some units in the last place of float64, what sums over classes and members leave behind."""


def rank(confidence_N: Array, correct_N: Correct) -> tuple[Array, Array]:
    """Confidences, highest first, and how right the image at each place is: 0, 1 or between.

    Images of equal confidence share their places: each gets the share of right ones among them, which is what a random
    order of them gives on average, so that the order of a file decides nothing. Ranked once is ranked: to rank what
    this returns changes nothing and costs next to nothing.
    """
    order_N = np.argsort(-confidence_N, kind="stable")
    confidence_N, right_N = confidence_N[order_N], correct_N[order_N].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, _apart(confidence_N)])
    if len(starts) < len(confidence_N):
        sizes = np.diff(np.r_[starts, len(confidence_N)])
        right_N = np.repeat(np.add.reduceat(right_N, starts) / sizes, sizes)
    return confidence_N, right_N


def levels(*scores: Array) -> list[Array]:
    """Sets of scores as places 0, 1, 2, … in the same order, equal where the scores are."""
    together = np.concatenate(scores)
    order = np.argsort(together)
    level = np.empty(len(together))
    level[order] = np.cumsum(np.r_[False, _apart(together[order])])
    return np.split(level, np.cumsum([len(each) for each in scores[:-1]]))


def _apart(ordered_N: Array) -> npt.NDArray[np.bool_]:
    """Whether each but the first is another score than the one before."""
    size_N = np.abs(ordered_N)
    return np.abs(np.diff(ordered_N)) > ROUNDING * np.maximum(size_N[1:], size_N[:-1])
