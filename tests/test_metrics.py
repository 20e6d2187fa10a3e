"""Accuracy, losses, calibration errors and pooling: values worked out by hand, and the edges where others went wrong."""

import math

import numpy as np
import pytest
from predictions import confidence_and_hits, log_of, random_members, random_predictions
from scipy.special import log_softmax, softmax

from benchmark.metrics.accuracy import accuracy, top_k_accuracy
from benchmark.metrics.calibration import brier, ece, ece_adaptive, ece_classwise, equal_width_bins, mce, nll
from benchmark.metrics.pooling import POOLINGS, Members, pool
from benchmark.metrics.prediction import Prediction

# Accuracy


def test_accuracy_counts_hits() -> None:
    scores_NK = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(scores_NK, np.array([1, 0, 0, 0])) == 0.75


def test_of_equal_scores_the_first_class_counts() -> None:
    ties_NK = np.zeros((3, 4))
    assert accuracy(ties_NK, np.array([0, 1, 0])) == pytest.approx(2 / 3)
    assert top_k_accuracy(ties_NK, np.array([0, 1, 2]), 2) == pytest.approx(2 / 3)
    one_ahead_NK = np.array([[1.0, 1.0, 2.0, 1.0]] * 3)
    assert top_k_accuracy(one_ahead_NK, np.array([0, 1, 2]), 2) == pytest.approx(2 / 3)  # classes 2 and 0


@pytest.mark.parametrize("num_classes", [4, 10, 100])
@pytest.mark.parametrize("num_members", [2, 3, 4])
def test_an_even_vote_goes_to_the_first_class_whatever_rounding_says(num_members: int, num_classes: int) -> None:
    """Each member prefers another class by as much, so that as many classes are equally probable in the ensemble."""
    logits_MNK = np.random.default_rng(0).normal(size=(1, 200, num_classes)).repeat(num_members, axis=0)
    logits_MNK[:, :, :num_members] = 5
    logits_MNK[range(num_members), :, range(num_members)] = 8
    for pooling in POOLINGS:
        log_p_NK = pool(logits_MNK, pooling)
        assert accuracy(log_p_NK, np.zeros(200, int)) == 1.0
        assert not Prediction(log_p_NK, np.zeros(200, int)).class_N.any()
        last_N = np.full(200, num_members - 1)
        assert [top_k_accuracy(log_p_NK, last_N, k) for k in (num_members - 1, num_members)] == [0.0, 1.0]


def test_the_label_counts_among_the_first_five() -> None:
    scores_NK = np.array([[7.0, 6, 5, 4, 3, 2, 1]] * 3)
    assert top_k_accuracy(scores_NK, np.array([0, 4, 5])) == pytest.approx(2 / 3)
    assert top_k_accuracy(scores_NK, np.array([0, 4, 5]), 1) == accuracy(scores_NK, np.array([0, 4, 5]))


@pytest.mark.parametrize("num_classes", [2, 5])
def test_five_classes_or_fewer_are_all_among_the_first_five(num_classes: int) -> None:
    log_p_NK, labels_N = random_predictions(30, num_classes, 1.0)
    assert top_k_accuracy(log_p_NK, labels_N) == 1.0


# Negative log-likelihood and Brier score


def test_nll_by_hand() -> None:
    log_p_NK = log_of([0.5, 0.5], [0.75, 0.25], [0.0, 1.0])
    assert nll(log_p_NK, np.array([0, 1, 1])) == pytest.approx((math.log(2) + math.log(4) + 0) / 3)


def test_nll_is_infinite_where_the_label_was_ruled_out() -> None:
    assert nll(log_of([0.0, 1.0]), np.array([0])) == math.inf


def test_brier_by_hand() -> None:
    log_p_NK = log_of([0.5, 0.3, 0.2], [0.0, 1.0, 0.0])
    assert brier(log_p_NK[:1], np.array([0])) == pytest.approx(0.25 + 0.09 + 0.04)
    assert brier(log_p_NK[:1], np.array([2])) == pytest.approx(0.25 + 0.09 + 0.64)
    assert brier(log_p_NK[1:], np.array([1])) == 0.0
    assert brier(log_p_NK[1:], np.array([0])) == 2.0  # summed over classes: the worst is 2, not 2/K
    assert brier(log_p_NK, np.array([0, 0])) == pytest.approx(1.19)


# Calibration errors


def test_ece_and_mce_by_hand() -> None:
    # (14/15, 1]: 0.95 right, 0.97 wrong, 1.0 right; (9/15, 10/15]: 0.62 wrong. All other bins are empty.
    confidence_N, correct_N = np.array([0.95, 0.97, 1.0, 0.62]), np.array([True, False, True, False])
    assert ece(confidence_N, correct_N) == pytest.approx(3 / 4 * abs(2 / 3 - 2.92 / 3) + 1 / 4 * 0.62)
    assert mce(confidence_N, correct_N) == pytest.approx(0.62)
    assert mce(confidence_N[:3], correct_N[:3]) == pytest.approx(abs(2 / 3 - 2.92 / 3))


def test_full_confidence_is_in_the_last_bin() -> None:
    # One bin, the first wrong: |1/2 - mean(1, 0.95)|. Were 1.0 in a bin of its own, it would be (1 + 0.05) / 2.
    correct_N = np.array([False, True])
    assert ece(np.array([1.0, 0.95]), correct_N) == pytest.approx(0.975 - 0.5)
    assert mce(np.array([1.0, 0.95]), correct_N) == pytest.approx(0.975 - 0.5)
    assert ece(np.array([1 + 4e-16, 0.95]), correct_N) == pytest.approx(0.975 - 0.5)


def test_a_bin_holds_its_upper_edge() -> None:
    # Two bins: 0.5 belongs to the first with 0.4, not to the second with 0.9.
    confidence_N, correct_N = np.array([0.5, 0.4, 0.9]), np.array([True, False, True])
    assert ece(confidence_N, correct_N, 2) == pytest.approx(2 / 3 * abs(0.5 - 0.45) + 1 / 3 * 0.1)
    assert list(equal_width_bins(np.array([0.0, 1 / 15, 0.0667, 1.0]))) == [0, 0, 1, 14]


@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 10, 15])
def test_rounding_lifts_no_confidence_over_the_edge_it_stands_on(num_classes: int) -> None:
    expected = math.ceil(15 / num_classes) - 1
    for num_members in range(1, 8):
        prediction = Prediction(pool(np.ones((num_members, 4, num_classes)), "prob_mean"), np.zeros(4, int))
        assert set(equal_width_bins(prediction.confidence_N)) == {expected}


def test_perfect_and_hopeless_calibration() -> None:
    sure_N, right_N = np.ones(3), np.ones(3, dtype=bool)
    for metric in (ece, mce, ece_adaptive):
        assert metric(sure_N, right_N) == 0.0
        assert metric(sure_N, ~right_N) == 1.0


def test_adaptive_ece_by_hand() -> None:
    # Five images in two bins: the three least confident, then two.
    confidence_N = np.array([0.9, 0.5, 0.6, 0.8, 0.7])
    correct_N = np.array([True, False, True, False, True])
    expected = 3 / 5 * abs(2 / 3 - 0.6) + 2 / 5 * abs(1 / 2 - 0.85)
    assert ece_adaptive(confidence_N, correct_N, 2) == pytest.approx(expected)
    # More bins than images: one image each.
    assert ece_adaptive(confidence_N, correct_N, 15) == pytest.approx((0.5 + 0.4 + 0.3 + 0.8 + 0.1) / 5)


def test_adaptive_ece_shares_accuracy_among_images_of_equal_confidence() -> None:
    # Three of four images at 0.6, one of the three right: each of them counts as right by 1/3.
    confidence_N, correct_N = np.array([0.6, 0.9, 0.6, 0.6]), np.array([True, True, False, False])
    expected = 2 / 4 * abs(1 / 3 - 0.6) + 2 / 4 * abs((1 / 3 + 1) / 2 - 0.75)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 3, 0]):
        assert ece_adaptive(confidence_N[order], correct_N[order], 2) == pytest.approx(expected)


def test_classwise_ece_by_hand() -> None:
    # Two bins. Class 0 gets 0.5 and 0.4 (first bin), 0.9 (second); class 1 gets 0.3, 0.6 (second), 0.1; class 2, to
    # which no image belongs, 0.2, 0, 0.
    p_NK = np.array([[0.5, 0.3, 0.2], [0.4, 0.6, 0.0], [0.9, 0.1, 0.0]])
    labels_N = np.array([0, 1, 0])
    class_0 = abs(1 - 0.9) / 3 + abs(1 - 0.9) / 3
    class_1 = abs(0 - 0.4) / 3 + abs(1 - 0.6) / 3
    class_2 = abs(0 - 0.2) / 3
    assert ece_classwise(p_NK, labels_N, 2) == pytest.approx((class_0 + class_1 + class_2) / 3)


def test_classwise_ece_of_certain_predictions() -> None:
    assert ece_classwise(np.eye(3), np.arange(3)) == 0.0
    assert ece_classwise(np.eye(2), np.array([1, 0])) == 1.0


@pytest.mark.parametrize("num_classes", [15, 16, 100])
def test_classwise_ece_where_every_probability_is_in_the_first_bin(num_classes: int) -> None:
    # Two images, both of class 0: its gap is 1 - 1/K, that of the others 1/K.
    p_NK = np.full((2, num_classes), 1 / num_classes)
    expected = 2 * (num_classes - 1) / num_classes**2
    assert ece_classwise(p_NK, np.zeros(2, int)) == pytest.approx(expected)


def test_one_image_has_every_calibration_error() -> None:
    log_p_NK, label_N = log_of([0.7, 0.3]), np.array([1])
    for metric in (ece, mce, ece_adaptive):
        assert metric(*confidence_and_hits(log_p_NK, label_N)) == pytest.approx(0.7)
    assert ece_classwise(np.exp(log_p_NK), label_N) == pytest.approx(0.7)


# Pooling


def test_pooling_by_hand() -> None:
    logits_MNK = log_of([0.9, 0.1], [0.3, 0.7])[:, None]
    np.testing.assert_allclose(np.exp(pool(logits_MNK, "prob_mean")), [[0.6, 0.4]])
    geometric = np.sqrt([0.27, 0.07])
    np.testing.assert_allclose(np.exp(pool(logits_MNK, "logit_mean")), [geometric / geometric.sum()])


def test_pooled_predictions_are_those_of_plain_arithmetic() -> None:
    logits_MNK = np.random.default_rng(0).normal(size=(4, 30, 5)) * 3
    np.testing.assert_allclose(np.exp(pool(logits_MNK, "prob_mean")), softmax(logits_MNK, -1).mean(0))
    np.testing.assert_allclose(np.exp(pool(logits_MNK, "logit_mean")), softmax(logits_MNK.mean(0), -1))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_one_member_is_itself_under_both_poolings(pooling: str) -> None:
    logits_MNK = np.random.default_rng(0).normal(size=(1, 30, 5))
    np.testing.assert_allclose(pool(logits_MNK, pooling), log_softmax(logits_MNK[0], -1), rtol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_first_members_are_pooled_alone(pooling: str) -> None:
    logits_MNK, _ = random_members(4, 20, 6)
    for k in (1, 2, 3):
        np.testing.assert_array_equal(Members(logits_MNK).pool(pooling, first=k), pool(logits_MNK[:k], pooling))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_saturated_logits_lose_nothing(pooling: str, dtype: type) -> None:
    logits_MNK = np.array([[[1e4, 0, -1e4]], [[1e4, 0, 0]]], dtype=dtype)
    log_p_NK = pool(logits_MNK, pooling)
    expected = {"prob_mean": [0.0, -1e4, -1e4 - math.log(2)], "logit_mean": [0.0, -1e4, -1.5e4]}[pooling]
    np.testing.assert_allclose(log_p_NK[0], expected, rtol=1e-12)
    assert nll(log_p_NK, np.array([1])) == 1e4
    assert nll(log_p_NK, np.array([0])) == 0.0
    assert brier(log_p_NK, np.array([0])) == 0.0
    assert brier(log_p_NK, np.array([1])) == 2.0
    assert ece(*confidence_and_hits(log_p_NK, np.array([1]))) == 1.0


def test_a_probability_that_some_members_rule_out_keeps_its_digits() -> None:
    # float64 ends near e^-745: below it the logarithm comes from the members' logarithms.
    for depth in (300.0, 700.0, 744.0, 800.0, 5000.0):
        logits_MNK = np.array([[[0.0, -depth]], [[0.0, -depth - 1]]])
        expected = -depth + math.log((1 + math.exp(-1)) / 2)
        assert pool(logits_MNK, "prob_mean")[0, 1] == pytest.approx(expected, rel=1e-14)


def test_half_precision_logits_are_pooled_in_double() -> None:
    logits_MNK = np.random.default_rng(0).normal(size=(3, 50, 10)).astype(np.float16)
    log_p_NK = pool(logits_MNK, "prob_mean")
    assert log_p_NK.dtype == np.float64
    np.testing.assert_allclose(np.exp(log_p_NK).sum(-1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(log_p_NK, pool(logits_MNK.astype(np.float64), "prob_mean"))


def test_a_member_that_rules_a_class_out_vetoes_it_only_under_the_mean_of_logits() -> None:
    logits_MNK = np.array([[[0.0, -1000.0]], [[0.0, 2.0]]])
    assert pool(logits_MNK, "prob_mean")[0, 1] == pytest.approx(math.log(1 / (1 + math.exp(-2)) / 2))
    assert pool(logits_MNK, "logit_mean")[0, 1] == pytest.approx(-499.0)


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(ValueError, match="prob_mean"):
        pool(np.zeros((1, 1, 2)), "mean")
