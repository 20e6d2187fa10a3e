"""Diversity of members by hand, for one member, and where a measure is undefined."""

import math

import numpy as np
import pytest
from predictions import random_members

from benchmark.metrics.calibration import brier, nll
from benchmark.metrics.diversity import ambiguity, cosine, disagreement, double_fault, kl, q_statistic, ratio_error
from benchmark.metrics.pooling import Members


def test_disagreement_is_the_mean_over_pairs() -> None:
    # Pairs differ on 1, 2 and 1 of 3 images.
    class_MN = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1]])
    assert disagreement(class_MN) == pytest.approx((1 + 2 + 1) / 9)
    assert disagreement(class_MN[[0, 0]]) == 0.0


def test_kl_is_the_mean_over_both_directions() -> None:
    p_MNK = np.array([[[0.5, 0.5]], [[0.9, 0.1]]])
    there = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    back = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert kl(p_MNK, np.log(p_MNK)) == pytest.approx((there + back) / 2)


def test_kl_of_saturated_members_is_their_difference_of_logits() -> None:
    members = Members(np.array([[[0.0, -1e4]], [[-2e4, 0.0]]], dtype=np.float32))
    assert kl(members.p_MNK, members.log_p) == pytest.approx((1e4 + 2e4) / 2)


def test_cosine_by_hand() -> None:
    p_MNK = np.array([[[1.0, 0.0], [0.6, 0.4]], [[0.0, 1.0], [0.6, 0.4]]])
    assert cosine(p_MNK) == pytest.approx((0 + 1) / 2)


CORRECT_MN = np.array([[1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0]], dtype=bool)
"""Three images that both get right, two that neither does, and one that each alone gets right."""


def test_pairwise_counts_by_hand() -> None:
    assert q_statistic(CORRECT_MN) == pytest.approx((3 * 2 - 1 * 1) / (3 * 2 + 1 * 1))
    assert double_fault(CORRECT_MN) == pytest.approx(2 / 7)
    assert ratio_error(CORRECT_MN) == pytest.approx((1 + 1) / 2)


def test_members_that_fail_alike_or_never_alike() -> None:
    alike_MN = CORRECT_MN[[0, 0]]
    assert (q_statistic(alike_MN), ratio_error(alike_MN)) == (1.0, 0.0)
    apart_MN = np.array([[True, False], [False, True]])
    assert (q_statistic(apart_MN), double_fault(apart_MN), ratio_error(apart_MN)) == (-1.0, 0.0, math.inf)


def test_what_no_error_or_a_single_pair_leaves_undefined() -> None:
    perfect_MN = np.ones((2, 3), dtype=bool)
    assert math.isnan(q_statistic(perfect_MN))
    assert math.isnan(ratio_error(perfect_MN))
    assert double_fault(perfect_MN) == 0.0
    third_never_fails_MN = np.vstack([CORRECT_MN, np.ones(7, dtype=bool)])
    assert math.isnan(q_statistic(third_never_fails_MN))
    assert ratio_error(third_never_fails_MN) == math.inf


def test_one_member_has_no_diversity() -> None:
    logits_MNK, labels_N = random_members(1, 20, 4)
    one = Members(logits_MNK)
    assert disagreement(one.class_MN) == 0.0
    assert kl(one.p_MNK, one.log_p) == 0.0
    assert cosine(one.p_MNK) == 1.0
    correct_MN = one.class_MN == labels_N
    assert all(math.isnan(metric(correct_MN)) for metric in (q_statistic, double_fault, ratio_error))


def test_equal_members_have_no_diversity() -> None:
    logits_MNK, _ = random_members(1, 200, 10)
    three = Members(np.repeat(logits_MNK, 3, axis=0))
    assert disagreement(three.class_MN) == 0.0
    assert 0 <= kl(three.p_MNK, three.log_p) < 1e-12
    assert cosine(three.p_MNK) == pytest.approx(1.0, abs=1e-14)


def test_ambiguity_of_nll_under_the_mean_of_logits_is_the_divergence_of_members_from_it() -> None:
    logits_MNK, labels_N = random_members(3, 100, 6)
    members = Members(logits_MNK)
    log_p_NK = members.pool("logit_mean")
    divergence = (np.exp(log_p_NK) * (log_p_NK - members.log_p)).sum(-1).mean()
    loss = np.mean([nll(log_p, labels_N) for log_p in members.log_p])
    assert ambiguity(loss, nll(log_p_NK, labels_N)) == pytest.approx(divergence)


def test_ambiguity_of_brier_under_the_mean_of_probabilities_is_the_squared_distance_to_it() -> None:
    logits_MNK, labels_N = random_members(3, 100, 6)
    members = Members(logits_MNK)
    log_p_NK = members.pool("prob_mean")
    distance = ((members.p_MNK - np.exp(log_p_NK)) ** 2).sum(-1).mean()
    loss = np.mean([brier(log_p, labels_N) for log_p in members.log_p])
    assert ambiguity(loss, brier(log_p_NK, labels_N)) == pytest.approx(distance)
