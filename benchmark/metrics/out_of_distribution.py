"""How well a score tells test images (the positive class) from images of another data set.

Scores are high for test images: the highest probability, or the negative entropy or mutual information.
"""

import numpy as np

from benchmark.metrics.typing import Array

TRUE_POSITIVE_PERCENT = 95


def auroc(in_N: Array, out_N: Array) -> float:
    """P(test image scores higher than an out-of-distribution one) + P(equal)/2: the area under the ROC curve
    (Hanley & McNeil 1982; Hendrycks & Gimpel 2017)."""
    ordered = np.sort(out_N)
    below_N, below_or_equal_N = (np.searchsorted(ordered, in_N, side) for side in ("left", "right"))
    return float((below_N + below_or_equal_N).mean() / (2 * len(out_N)))


def aupr(in_N: Array, out_N: Array) -> float:
    """Area under the precision-recall curve as average precision: Σ_t (R_t - R_{t-1}) P_t over thresholds t
    (Davis & Goadrich 2006; Hendrycks & Gimpel 2017).

    Precision P and recall R of «score ≥ t» for each distinct score t, highest first: equal scores enter together, and
    nothing is interpolated. It depends on the numbers of images in both sets.
    """
    inside, outside = np.sort(in_N), np.sort(out_N)
    thresholds, num_at = np.unique(inside, return_counts=True)  # recall rises at scores of test images only
    accepted_in = len(inside) - np.searchsorted(inside, thresholds)
    accepted_out = len(outside) - np.searchsorted(outside, thresholds)
    return float((num_at * accepted_in / (accepted_in + accepted_out)).sum() / len(inside))


def fpr95(in_N: Array, out_N: Array) -> float:
    """Share of out-of-distribution images accepted where 95 % of the test images are (Liang et al. 2018).

    P(out ≥ t) with t the highest score that at least 95 % of the test images reach: the ⌈0.95 N⌉-th highest.
    """
    rank = -(-TRUE_POSITIVE_PERCENT * len(in_N) // 100)
    return float((out_N >= np.sort(in_N)[len(in_N) - rank]).mean())


DETECTION = {"auroc": auroc, "aupr": aupr, "fpr95": fpr95}


def max_probability(log_p_NK: Array) -> Array:
    """max_k p_k of each image: confidence (Hendrycks & Gimpel 2017)."""
    return np.minimum(np.exp(log_p_NK.max(axis=-1)), 1)


def entropy(log_p_NK: Array) -> Array:
    """-Σ_k p_k log p_k of each image, in nats; 0 log 0 = 0 (Shannon 1948)."""
    if np.isneginf(log_p_NK.min()):
        log_p_NK = np.maximum(log_p_NK, np.finfo(np.float64).min)
    return -np.vecdot(np.exp(log_p_NK), log_p_NK)


def mutual_information(log_p_NK: Array, member_entropy_MN: Array) -> Array:
    """Entropy of the mean of probabilities minus mean entropy of the members, in nats (Depeweg et al. 2018).

    H(1/M Σ_m p_m) - 1/M Σ_m H(p_m), never below 0; what members disagree about. Rounded to 1e-12 nats, so that
    rounding does not order images on which members agree: with one member every image has 0.
    """
    return np.maximum(np.round(entropy(log_p_NK) - member_entropy_MN.mean(axis=0), 12), 0)
