"""How well confidence tells test images from images of another data set."""

import numpy as np

from benchmark.metrics.typing import Array


def auroc(in_N: Array, out_N: Array) -> float:
    """Probability that a test image scores higher than an out-of-distribution one, ties counting half (Mann-Whitney)."""
    ordered = np.sort(out_N)
    below_N, below_or_equal_N = (np.searchsorted(ordered, in_N, side) for side in ("left", "right"))
    return float((below_N + below_or_equal_N).mean() / (2 * len(out_N)))
