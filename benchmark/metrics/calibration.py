"""Proper scores, calibration error and temperature. All take log-probabilities, so that saturation costs no digits."""

import numpy as np
from scipy.special import log_softmax

from benchmark.metrics.typing import Array, Labels

ECE_BINS = 15


def nll(log_p_NK: Array, labels_N: Labels) -> float:
    """Negative log-likelihood in nats: mean over images of -log p(label)."""
    return float(-_of_label(log_p_NK, labels_N).mean())


def brier(log_p_NK: Array, labels_N: Labels) -> float:
    """Brier score: mean over images of sum_k (p_k - [k = label])², between 0 and 2 (Brier 1950).

    Summed over classes, not averaged: some code bases divide by K.
    """
    p_NK = np.exp(log_p_NK)
    return float(((p_NK**2).sum(-1) - 2 * np.exp(_of_label(log_p_NK, labels_N)) + 1).mean())


def ece(log_p_NK: Array, labels_N: Labels, num_bins: int = ECE_BINS) -> float:
    """Expected calibration error: sum over bins of n_b/N |accuracy_b - mean confidence_b| (Guo et al. 2017, equation 3).

    Bins have equal width; a bin holds its upper edge, so confidence 1.0 is in the last one.
    """
    confidence_N = np.exp(log_p_NK.max(-1))
    correct_N = log_p_NK.argmax(-1) == labels_N
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(labels_N))


def scale(log_p_NK: Array, temperature: float) -> Array:
    """Log-probabilities of softmax(log p / T): the pooled prediction is scaled, as in Ashukha et al. 2020."""
    return log_softmax(log_p_NK / temperature, axis=-1)


def fit_temperature(log_p_NK: Array, labels_N: Labels, low: float = 0.05, high: float = 20.0) -> float:
    """The temperature in [low, high] that minimises NLL (Guo et al. 2017).

    NLL is convex in β = 1/T, with derivative mean(E_p[log p] - log p_label) and second derivative mean(Var_p[log p]);
    Newton steps inside a shrinking bracket, which ends at a bound where no minimum lies inside.
    """
    # A label of probability 0 would make NLL infinite for every β; float64's smallest normal number stands for 0.
    z_NK = np.where(np.isneginf(log_p_NK), np.log(np.finfo(np.float64).tiny), log_p_NK)
    label_N = _of_label(z_NK, labels_N)
    bracket = [1 / high, 1 / low]
    beta = 1.0
    for _ in range(100):
        p_NK = np.exp(log_softmax(beta * z_NK, axis=-1))
        mean_N = (p_NK * z_NK).sum(-1)
        slope = float((mean_N - label_N).mean())
        curvature = float(((p_NK * z_NK**2).sum(-1) - mean_N**2).mean())
        bracket[0 if slope < 0 else 1] = beta
        step = beta - slope / curvature if curvature > 0 else np.nan
        previous, beta = beta, step if bracket[0] < step < bracket[1] else sum(bracket) / 2
        if abs(beta - previous) < 1e-10 * previous:
            break
    return 1 / beta


def _of_label(values_NK: Array, labels_N: Labels) -> Array:
    return np.take_along_axis(values_NK, labels_N[:, None], axis=-1)[:, 0]
