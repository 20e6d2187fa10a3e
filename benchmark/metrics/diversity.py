"""How members differ. Pairs are unordered and averaged over, unless a docstring says otherwise."""

import itertools

import numpy as np
import numpy.typing as npt

from benchmark.metrics.typing import Array

Classes = npt.NDArray[np.integer]


def disagreement(class_MN: Classes) -> float:
    """Share of images on which two members predict different classes, mean over pairs; 0 for one member (Fort et al. 2019).

    2/(M(M-1)) Σ_{i<j} 1/N Σ_n [class_i ≠ class_j].
    """
    return _mean([(a != b).mean() for a, b in itertools.combinations(class_MN, 2)], one_member=0.0)


def kl(p_MNK: Array, log_p_MNK: Array) -> float:
    """Kullback-Leibler divergence between members in nats, mean over images and ordered pairs; 0 for one member.

    1/(M(M-1)) Σ_{i≠j} 1/N Σ_n Σ_k p_i log(p_i / p_j): both directions of each pair (Havasi et al. 2021).
    """
    num_members, num_images, _ = p_MNK.shape
    # Σ_i Σ_j p_i log p_j is (Σ_i p_i) (Σ_j log p_j): no pass over pairs.
    own = np.vecdot(p_MNK, log_p_MNK).sum()
    divergence = num_members * own - np.vdot(p_MNK.sum(axis=0), log_p_MNK.sum(axis=0))
    return max(float(divergence), 0.0) / (num_images * num_members * max(num_members - 1, 1))


def cosine(p_MNK: Array) -> float:
    """Cosine of the angle between the probability vectors of two members, mean over images and pairs; 1 for one member.

    2/(M(M-1)) Σ_{i<j} 1/N Σ_n p_i·p_j / (|p_i||p_j|) (Djolonga et al. 2020).
    """
    norm_MN = np.sqrt(np.vecdot(p_MNK, p_MNK))
    pairs = itertools.combinations(range(len(p_MNK)), 2)
    values = [float((np.vecdot(p_MNK[i], p_MNK[j]) / (norm_MN[i] * norm_MN[j])).mean()) for i, j in pairs]
    return _mean(values, one_member=1.0)


def q_statistic(correct_MN: npt.NDArray[np.bool_]) -> float:
    """Yule's Q of which images two members get right, mean over pairs (Kuncheva & Whitaker 2003, section 2.1).

    (N11 N00 - N10 N01) / (N11 N00 + N10 N01), from images that both, neither or one of them gets right: 1 where they
    fail on the same images, 0 where independently. Not a number for one member, or where 0/0 for a pair.
    """
    values = []
    for both, neither, first, second in _counts(correct_MN):
        same, different = both * neither, first * second
        values.append((same - different) / (same + different) if same + different else np.nan)
    return _mean(values)


def double_fault(correct_MN: npt.NDArray[np.bool_]) -> float:
    """Share of images that two members both get wrong, N00/N, mean over pairs (Kuncheva & Whitaker 2003, section 2.1).

    Not a number for one member.
    """
    return _mean([neither / correct_MN.shape[1] for _, neither, _, _ in _counts(correct_MN)])


def ratio_error(correct_MN: npt.NDArray[np.bool_]) -> float:
    """Images that one of two members gets wrong per image that both get wrong, mean over pairs (Aksela 2003).

    (N10 + N01) / N00 as in the code and figures of MixMo (Ramé et al. 2021): errors count as shared whichever wrong
    classes the two predict. Infinite where a pair shares no error, and not a number for one member or without errors.
    """
    values = []
    for _, neither, first, second in _counts(correct_MN):
        values.append((first + second) / neither if neither else np.inf if first + second else np.nan)
    return _mean(values)


def ambiguity(member_loss: float, ensemble_loss: float) -> float:
    """Mean loss of the members minus loss of the ensemble (Krogh & Vedelsby 1995; Wood et al. 2023).

    The diversity in ensemble loss = mean member loss - diversity. For Brier and the mean of probabilities it is
    1/M Σ_m 1/N Σ_n |p_m - p̄|²; for NLL and the mean of logits 1/M Σ_m 1/N Σ_n KL(p̄ ‖ p_m), both free of labels; for
    NLL and the mean of probabilities it depends on the labels, 1/M Σ_m 1/N Σ_n log(p̄(label) / p_m(label)).
    """
    return member_loss - ensemble_loss


def _counts(correct_MN: npt.NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Per pair the numbers of images that both, neither, only the first and only the second member gets right."""
    right = correct_MN.astype(np.float64)
    both_MM, num_images = right @ right.T, correct_MN.shape[1]
    counts = []
    for i, j in itertools.combinations(range(len(right)), 2):
        both, first, second = int(both_MM[i, j]), int(both_MM[i, i]), int(both_MM[j, j])
        counts.append((both, num_images - first - second + both, first - both, second - both))
    return counts


def _mean(values: list[float], one_member: float = np.nan) -> float:
    return float(np.mean(values)) if values else one_member
