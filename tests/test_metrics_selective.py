"""Selective classification and out-of-distribution detection by hand: ties, extremes and single images."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from predictions import log_of, random_members

from benchmark.metrics.out_of_distribution import aupr, auroc, entropy, fpr95, max_probability, mutual_information
from benchmark.metrics.pooling import Members
from benchmark.metrics.ranking import levels, rank
from benchmark.metrics.selective import accuracy_at_80, augrc, aurc


def test_images_of_equal_confidence_share_their_places() -> None:
    confidence_N, right_N = rank(np.array([0.2, 0.9, 0.5, 0.5, 0.5]), np.array([True, False, True, False, False]))
    np.testing.assert_array_equal(confidence_N, [0.9, 0.5, 0.5, 0.5, 0.2])
    np.testing.assert_allclose(right_N, [0, 1 / 3, 1 / 3, 1 / 3, 1])
    for ranked, again in zip((confidence_N, right_N), rank(confidence_N, right_N), strict=True):
        np.testing.assert_allclose(again, ranked, rtol=1e-15)


def test_confidences_that_differ_by_rounding_are_equal() -> None:
    tenth = np.array([0.1 + 0.2, 0.3, 0.9, 0.3 + 1e-14])  # the first is 5.6e-17 above the second
    _, right_N = rank(tenth, np.array([True, False, True, False]))
    np.testing.assert_array_equal(right_N, [1, 0, 0.5, 0.5])


def test_levels_order_sets_together_and_leave_rounding_out() -> None:
    inside, outside = levels(np.array([-0.3, 5.0, 0.0]), np.array([-0.1 - 0.2, -7.0, 5.0, 5.1]))
    assert (inside.tolist(), outside.tolist()) == ([1, 3, 2], [1, 0, 3, 4])


def test_aurc_by_hand() -> None:
    # Surest first: right, wrong, right, wrong. Risks at 1 to 4 images: 0, 1/2, 1/3, 1/2.
    confidence_N, correct_N = np.array([0.6, 0.9, 0.8, 0.7]), np.array([False, True, False, True])
    assert aurc(confidence_N, correct_N) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_augrc_by_hand() -> None:
    # The curve through (0, 0), (1/4, 0), (2/4, 1/4), (3/4, 1/4), (1, 2/4).
    confidence_N, correct_N = np.array([0.6, 0.9, 0.8, 0.7]), np.array([False, True, False, True])
    assert augrc(confidence_N, correct_N) == pytest.approx((0 / 2 + 1 / 8 + 1 / 4 + 3 / 8) / 4)


@pytest.mark.parametrize("metric", [aurc, augrc])
def test_risk_of_perfect_and_hopeless_predictions(metric: Callable[..., float]) -> None:
    sure_N = np.linspace(0.5, 1, 10)
    assert metric(sure_N, np.ones(10, bool)) == 0.0
    assert metric(sure_N, np.zeros(10, bool)) == pytest.approx(1.0 if metric is aurc else 0.5)
    assert metric(np.array([0.7]), np.array([False])) == (1.0 if metric is aurc else 0.5)


@pytest.mark.parametrize("metric", [aurc, augrc, accuracy_at_80])
def test_ties_count_as_the_mean_over_all_orders(metric: Callable[..., float]) -> None:
    confidence_N = np.array([0.9, 0.8, 0.6, 0.6, 0.6, 0.6])
    correct_N = np.array([False, True, True, False, False, True])
    apart_N = np.array([0.9, 0.8, 0.64, 0.63, 0.62, 0.61])
    orders = [metric(apart_N, correct_N[[0, 1, *order]]) for order in itertools.permutations([2, 3, 4, 5])]
    assert np.ptp(orders) > 0.01
    assert metric(confidence_N, correct_N) == pytest.approx(np.mean(orders))
    shuffled = np.random.default_rng(0).permutation(6)
    assert metric(confidence_N[shuffled], correct_N[shuffled]) == pytest.approx(np.mean(orders))


def test_accuracy_at_80_keeps_four_of_five_images_and_rounds_up() -> None:
    confidence_N = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert accuracy_at_80(confidence_N[:5], np.array([1, 1, 0, 1, 0])) == 3 / 4
    assert accuracy_at_80(confidence_N, np.array([1, 1, 0, 1, 0, 0])) == 3 / 5
    assert accuracy_at_80(confidence_N[:1], np.array([1])) == 1.0
    for num_images in range(1, 200):
        kept = math.ceil(num_images * 4 / 5)
        right_N = np.arange(num_images) < kept
        assert accuracy_at_80(np.linspace(1, 0, num_images), right_N) == 1.0


# Out-of-distribution detection


def test_auroc_by_hand() -> None:
    # Of the 6 pairs 4 are in order, 1 is a tie.
    assert auroc(np.array([0.9, 0.5]), np.array([0.1, 0.5, 0.7])) == pytest.approx(4.5 / 6)


def test_aupr_by_hand() -> None:
    # Thresholds 0.9 (1 of 1), 0.7 (1 of 2), 0.5 (2 of 4): recall rises by half at 0.9 and at 0.5.
    assert aupr(np.array([0.9, 0.5]), np.array([0.1, 0.5, 0.7])) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 4)


def test_fpr95_by_hand() -> None:
    # 95 % of 20 images are 19: the threshold is the second lowest score, 0.1.
    in_N = np.r_[0.0, np.linspace(0.1, 1, 19)]
    assert fpr95(in_N, np.array([0.05, 0.1, 0.5, 2.0])) == 3 / 4
    # 95 % of 10 images are all of them.
    assert fpr95(np.linspace(0.1, 1, 10), np.array([0.05, 0.1, 0.5, 2.0])) == 3 / 4
    assert fpr95(np.array([0.3]), np.array([0.2, 0.3])) == 1 / 2


def test_detection_of_separate_and_of_equal_scores() -> None:
    high_N, low_N = np.full(3, 1.0), np.zeros(4)
    assert (auroc(high_N, low_N), aupr(high_N, low_N), fpr95(high_N, low_N)) == (1.0, 1.0, 0.0)
    assert (auroc(low_N, high_N), fpr95(low_N, high_N)) == (0.0, 1.0)
    equal = auroc(high_N, np.ones(4)), aupr(high_N, np.ones(4)), fpr95(high_N, np.ones(4))
    assert equal == pytest.approx((0.5, 3 / 7, 1.0))


def test_scores_of_certain_and_of_even_predictions() -> None:
    log_p_NK = log_of([1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0])
    np.testing.assert_allclose(max_probability(log_p_NK), [1, 1 / 3, 0.5])
    np.testing.assert_allclose(entropy(log_p_NK), [0, math.log(3), math.log(2)])


def test_mutual_information_is_what_members_disagree_about() -> None:
    # Two members: certain of different classes, even about both, and certain of the same.
    logits_MNK = np.array([[[0.0, -1e4], [1.0, 1.0], [5e3, 0.0]], [[-1e4, 0.0], [3.0, 3.0], [5e3, 0.0]]])
    members = Members(logits_MNK)
    information_N = mutual_information(members.pool("prob_mean"), members.entropy_MN)
    np.testing.assert_allclose(information_N, [math.log(2), 0, 0], atol=1e-15)


def test_one_member_disagrees_about_nothing() -> None:
    logits_MNK, _ = random_members(1, 500, 10)
    members = Members(logits_MNK)
    assert not mutual_information(members.pool("prob_mean"), members.entropy_MN).any()
