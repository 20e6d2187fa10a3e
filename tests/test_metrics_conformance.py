"""Every metric against a second implementation: scikit-learn, torchmetrics, scipy, or the definition in loops."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from predictions import confidence_and_hits, random_members, random_predictions
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
    roc_curve,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from benchmark.metrics import diversity
from benchmark.metrics.accuracy import accuracy, top_k_accuracy
from benchmark.metrics.calibration import brier, ece, ece_adaptive, ece_classwise, mce, nll
from benchmark.metrics.out_of_distribution import aupr, auroc, entropy, fpr95, mutual_information
from benchmark.metrics.pooling import Members
from benchmark.metrics.selective import accuracy_at_80, augrc, aurc
from benchmark.metrics.typing import Array, Labels

SHAPES = [(400, 2, 1.0), (400, 10, 0.3), (400, 10, 3.0), (300, 100, 2.0), (7, 3, 1.0)]
"""Images, classes and how much too sharp the predictions are."""


@pytest.fixture(params=SHAPES, ids=str)
def predicted(request: pytest.FixtureRequest) -> tuple[Array, Labels]:
    """Log-probabilities and labels, of which class 1 has none."""
    log_p_NK, labels_N = random_predictions(*request.param)
    return log_p_NK, np.where(labels_N == 1, 0, labels_N)


def test_accuracies_are_scikit_learns_and_torchmetrics(predicted: tuple[Array, Labels]) -> None:
    log_p_NK, labels_N = predicted
    num_classes = log_p_NK.shape[1]
    assert accuracy(log_p_NK, labels_N) == pytest.approx(accuracy_score(labels_N, log_p_NK.argmax(1)))
    theirs = multiclass_accuracy(torch.tensor(log_p_NK), torch.tensor(labels_N), num_classes, average="micro")
    assert accuracy(log_p_NK, labels_N) == pytest.approx(theirs.item())
    for k in range(1, min(6, num_classes)):
        if num_classes > 2:
            expected = top_k_accuracy_score(labels_N, log_p_NK, k=k, labels=range(num_classes))
            assert top_k_accuracy(log_p_NK, labels_N, k) == pytest.approx(expected)


def test_losses_are_scikit_learns(predicted: tuple[Array, Labels]) -> None:
    log_p_NK, labels_N = predicted
    p_NK, classes = np.exp(log_p_NK), list(range(log_p_NK.shape[1]))
    assert nll(log_p_NK, labels_N) == pytest.approx(log_loss(labels_N, p_NK, labels=classes), rel=1e-6)
    by_loops = np.mean([sum((p_K[k] - (k == y)) ** 2 for k in classes) for p_K, y in zip(p_NK, labels_N, strict=True)])
    assert brier(log_p_NK, labels_N) == pytest.approx(by_loops)
    if len(classes) == 2:
        half = brier_score_loss(labels_N, p_NK[:, 1], pos_label=1)  # of one of the two classes
        assert brier(log_p_NK, labels_N) == pytest.approx(2 * half)


def test_calibration_errors_are_torchmetrics(predicted: tuple[Array, Labels]) -> None:
    log_p_NK, labels_N = predicted
    of_confidence = confidence_and_hits(log_p_NK, labels_N)
    for metric, norm in ((ece, "l1"), (mce, "max")):
        for num_bins in (5, 15):
            theirs = multiclass_calibration_error(
                torch.tensor(np.exp(log_p_NK)), torch.tensor(labels_N), log_p_NK.shape[1], num_bins, norm
            )
            assert metric(*of_confidence, num_bins) == pytest.approx(theirs.item(), abs=1e-6)


def bins_by_loops(values: Array, num_bins: int = 15) -> Iterator[list[int]]:
    """The indices in (b/B, (b+1)/B], bin after bin."""
    for b in range(num_bins):
        yield [i for i, value in enumerate(values) if b / num_bins < value <= (b + 1) / num_bins]


def test_class_and_top_label_calibration_errors_are_those_of_loops(predicted: tuple[Array, Labels]) -> None:
    log_p_NK, labels_N = predicted
    p_NK, num_images = np.exp(log_p_NK), len(labels_N)
    confidence_N, correct_N = confidence_and_hits(log_p_NK, labels_N)

    def weighted_gap(chosen: list[int], right_N: Array, value_N: Array) -> float:
        return abs(sum(right_N[chosen]) - sum(value_N[chosen])) / num_images

    top = sum(weighted_gap(chosen, correct_N, confidence_N) for chosen in bins_by_loops(confidence_N))
    assert ece(confidence_N, correct_N) == pytest.approx(top, abs=1e-12)
    of_classes = [
        sum(weighted_gap(chosen, labels_N == k, p_NK[:, k]) for chosen in bins_by_loops(p_NK[:, k]))
        for k in range(p_NK.shape[1])
    ]
    assert ece_classwise(p_NK, labels_N) == pytest.approx(np.mean(of_classes), abs=1e-12)
    in_order = np.argsort(confidence_N, kind="stable")
    runs = [list(run) for run in np.array_split(in_order, 15) if len(run)]
    adaptive = sum(weighted_gap(run, correct_N, confidence_N) for run in runs)
    assert ece_adaptive(confidence_N, correct_N) == pytest.approx(adaptive, abs=1e-12)


def test_selective_metrics_are_their_definitions(predicted: tuple[Array, Labels]) -> None:
    log_p_NK, labels_N = predicted
    confidence_N, correct_N = confidence_and_hits(log_p_NK, labels_N)
    wrong = [not right for _, right in sorted(zip(confidence_N, correct_N, strict=True), key=lambda pair: -pair[0])]
    sizes = range(1, len(wrong) + 1)
    assert aurc(confidence_N, correct_N) == pytest.approx(np.mean([sum(wrong[:i]) / i for i in sizes]))
    curve = [0, *(sum(wrong[:i]) / len(wrong) for i in sizes)]
    assert augrc(confidence_N, correct_N) == pytest.approx(np.trapezoid(curve) / len(wrong))
    kept = math.ceil(0.8 * len(wrong))
    assert accuracy_at_80(confidence_N, correct_N) == pytest.approx(1 - sum(wrong[:kept]) / kept)


def test_augrc_is_the_papers_formula_with_scikit_learns_auroc() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        confidence_N, correct_N = rng.integers(0, 12, 60) / 12, rng.random(60) < 0.7  # many ties
        right = correct_N.mean()
        expected = (1 - roc_auc_score(correct_N, confidence_N)) * right * (1 - right) + (1 - right) ** 2 / 2
        assert augrc(confidence_N, correct_N) == pytest.approx(expected)


@pytest.mark.parametrize("levels", [3, 30, 100_000])
@pytest.mark.parametrize(("num_in", "num_out"), [(300, 200), (20, 500), (1, 1), (101, 1)])
def test_detection_is_scikit_learns(levels: int, num_in: int, num_out: int) -> None:
    rng = np.random.default_rng(levels)
    in_N, out_N = rng.integers(0, levels, num_in) / levels, rng.integers(0, 2 * levels // 3, num_out) / levels
    is_in, both = np.r_[np.ones(num_in), np.zeros(num_out)], np.r_[in_N, out_N]
    assert auroc(in_N, out_N) == pytest.approx(roc_auc_score(is_in, both))
    assert aupr(in_N, out_N) == pytest.approx(average_precision_score(is_in, both))
    false_rates, true_rates, _ = roc_curve(is_in, both, drop_intermediate=False)
    enough = np.round(true_rates * num_in) * 20 >= 19 * num_in
    assert fpr95(in_N, out_N) == pytest.approx(false_rates[enough].min())


def test_entropies_are_scipys() -> None:
    logits_MNK, _ = random_members(4, 200, 10)
    members = Members(logits_MNK)
    log_p_NK = members.pool("prob_mean")
    np.testing.assert_allclose(members.entropy_MN, scipy_entropy(members.p_MNK, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(entropy(log_p_NK), scipy_entropy(np.exp(log_p_NK), axis=-1), rtol=1e-12)
    divergence_N = scipy_entropy(members.p_MNK, np.exp(log_p_NK), axis=-1).mean(axis=0)
    np.testing.assert_allclose(mutual_information(log_p_NK, members.entropy_MN), divergence_N, atol=1e-11)


@pytest.mark.parametrize("num_members", [2, 3, 5])
def test_diversity_is_that_of_loops_over_pairs(num_members: int) -> None:
    logits_MNK, labels_N = random_members(num_members, 150, 8)
    members = Members(logits_MNK)
    pairs = list(itertools.combinations(range(num_members), 2))
    p, correct = members.p_MNK, members.class_MN == labels_N
    both_ways = pairs + [(j, i) for i, j in pairs]
    expected_kl = np.mean([scipy_entropy(p[i], p[j], axis=-1).mean() for i, j in both_ways])
    assert diversity.kl(p, members.log_p) == pytest.approx(expected_kl)
    cosines = [[a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in zip(p[i], p[j], strict=True)] for i, j in pairs]
    assert diversity.cosine(p) == pytest.approx(np.mean(cosines))
    q_statistics, double_faults, ratios = [], [], []
    for i, j in pairs:
        outcomes = list(zip(correct[i].tolist(), correct[j].tolist(), strict=True))
        both, neither = outcomes.count((True, True)), outcomes.count((False, False))
        first, second = outcomes.count((True, False)), outcomes.count((False, True))
        q_statistics.append((both * neither - first * second) / (both * neither + first * second))
        double_faults.append(neither / len(labels_N))
        ratios.append((first + second) / neither)
    assert diversity.q_statistic(correct) == pytest.approx(np.mean(q_statistics))
    assert diversity.double_fault(correct) == pytest.approx(np.mean(double_faults))
    assert diversity.ratio_error(correct) == pytest.approx(np.mean(ratios))
