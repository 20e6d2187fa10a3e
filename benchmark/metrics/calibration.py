"""Proper scores and calibration errors.

Losses take log-probabilities, so that saturation costs no digits. Calibration errors take the confidence of N images
(their highest probability) and whether they are classified correctly, which example files hold too.
"""

import numpy as np
import numpy.typing as npt

from benchmark.metrics.ranking import rank
from benchmark.metrics.typing import Array, Correct, Labels

ECE_BINS = 15
EDGE_TOLERANCE = 1e-9
"""In bins: a confidence that rounding lifts over the edge it stands on (1/3 with 15 bins) stays in the bin below."""


def nlls(log_p_NK: Array, labels_N: Labels) -> Array:
    """-log p(label) of each image, in nats; infinite where the label has probability 0."""
    return -np.take_along_axis(log_p_NK, labels_N[:, None], axis=-1)[:, 0]


def nll(log_p_NK: Array, labels_N: Labels) -> float:
    """Negative log-likelihood in nats: 1/N Σ_n -log p_n(label) (the logarithmic score, Good 1952)."""
    return float(nlls(log_p_NK, labels_N).mean())


def briers(p_NK: Array, labels_N: Labels) -> Array:
    """Σ_k (p_k - [k = label])² of each image, between 0 and 2."""
    label_N = np.take_along_axis(p_NK, labels_N[:, None], axis=-1)[:, 0]
    return np.maximum(np.vecdot(p_NK, p_NK) - 2 * label_N + 1, 0)


def brier(log_p_NK: Array, labels_N: Labels) -> float:
    """Brier score: 1/N Σ_n Σ_k (p_nk - [k = label])², between 0 and 2 (Brier 1950, equation 2).

    Summed over classes, not averaged: some code bases divide by K.
    """
    return float(briers(np.exp(log_p_NK), labels_N).mean())


def equal_width_bins(confidence_N: Array, num_bins: int = ECE_BINS) -> npt.NDArray[np.intp]:
    """The bin b of each value, 0 to num_bins - 1: b/B < value ≤ (b+1)/B; 0 is in the first bin and 1 in the last."""
    return np.clip(np.ceil(confidence_N * num_bins - EDGE_TOLERANCE).astype(np.intp) - 1, 0, num_bins - 1)


def ece(confidence_N: Array, correct_N: Correct, num_bins: int = ECE_BINS) -> float:
    """Expected calibration error: Σ_b n_b/N |accuracy_b - mean confidence_b| (Guo et al. 2017, equation 3).

    Bins have equal width; a bin holds its upper edge, so confidence 1.0 is in the last one. Empty bins count nothing.
    """
    gap_N = correct_N - confidence_N
    gap_B = np.bincount(equal_width_bins(confidence_N, num_bins), weights=gap_N, minlength=num_bins)
    return float(np.abs(gap_B).sum() / len(gap_N))


def mce(confidence_N: Array, correct_N: Correct, num_bins: int = ECE_BINS) -> float:
    """Maximum calibration error: max_b |accuracy_b - mean confidence_b| (Naeini et al. 2015; Guo et al. 2017, equation 5).

    Over the bins of ece that hold an image; one image in a bin of its own can decide it.
    """
    bin_N = equal_width_bins(confidence_N, num_bins)
    gap_B = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=num_bins)
    return float((np.abs(gap_B) / np.maximum(np.bincount(bin_N, minlength=num_bins), 1)).max())


def ece_adaptive(confidence_N: Array, correct_N: Correct, num_bins: int = ECE_BINS) -> float:
    """ECE over bins of equal mass: Σ_b n_b/N |accuracy_b - mean confidence_b| (Nguyen & O'Connor 2015; Nixon et al. 2019).

    Images in the order of confidence, lowest first, are cut into runs of N/B; where B does not divide N the first N mod
    B bins hold one image more, and fewer than B images have a bin each. Images of equal confidence on both sides of a
    cut share their accuracy, so that their order decides nothing. Nixon et al. bin every class; this is the most
    probable one only, like ece.
    """
    confidence_N, right_N = rank(confidence_N, correct_N)
    gap_N = (right_N - confidence_N)[::-1]
    sizes = [len(part) for part in np.array_split(gap_N, min(num_bins, len(gap_N)))]
    gap_B = np.add.reduceat(gap_N, np.cumsum([0, *sizes[:-1]]))
    return float(np.abs(gap_B).sum() / len(gap_N))


def ece_classwise(p_NK: Array, labels_N: Labels, num_bins: int = ECE_BINS) -> float:
    """Class-wise ECE: 1/K Σ_k Σ_b n_kb/N |share of label k in b - mean p_k in b| (Kull et al. 2019).

    For each class all N images are put into bins of equal width by their probability of that class. A class that no
    image belongs to counts like the others, by the probability that it is given.
    """
    num_images, num_classes = p_NK.shape
    # Nearly all probabilities are in the first bin: it gets the sum of all, less those that are elsewhere.
    above = np.flatnonzero(p_NK > (1 + EDGE_TOLERANCE) / num_bins)
    p_above, class_above = p_NK.ravel()[above], above % num_classes
    cell = equal_width_bins(p_above, num_bins) * num_classes + class_above
    given_BK = np.bincount(cell, p_above, num_bins * num_classes).astype(np.float64)  # of nothing it counts in integers
    given_BK[:num_classes] += p_NK.sum(axis=0) - np.bincount(class_above, p_above, num_classes)
    p_label_N = p_NK[np.arange(num_images), labels_N]
    right_BK = np.bincount(
        equal_width_bins(p_label_N, num_bins) * num_classes + labels_N, minlength=num_bins * num_classes
    )
    return float(np.abs(right_BK - given_BK).sum() / (num_images * num_classes))
