"""Metrics against values worked out by hand and against other implementations (loops, scikit-learn, scipy)."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from benchmark.metrics.accuracy import accuracy
from benchmark.metrics.calibration import brier, ece, fit_temperature, nll, scale
from benchmark.metrics.diversity import disagreement
from benchmark.metrics.out_of_distribution import auroc
from benchmark.metrics.pooling import POOLINGS, pool
from benchmark.metrics.typing import Array, Labels


def log_of(*p_NK: list[float]) -> Array:
    """Log-probabilities, -inf where a probability is 0."""
    with np.errstate(divide="ignore"):
        return np.log(np.array(p_NK))


def random_predictions(num_images: int, num_classes: int, sharpness: float, seed: int = 0) -> tuple[Array, Labels]:
    """Log-probabilities that are `sharpness` times too sharp, and labels."""
    rng = np.random.default_rng(seed)
    z_NK = rng.normal(size=(num_images, num_classes)) * 2
    labels_N = np.array([rng.choice(num_classes, p=p_K) for p_K in softmax(z_NK, axis=-1)])
    return log_softmax(sharpness * z_NK, axis=-1), labels_N


# Accuracy


def test_accuracy_counts_hits() -> None:
    scores_NK = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(scores_NK, np.array([1, 0, 0, 0])) == 0.75
    log_p_NK, labels_N = random_predictions(500, 7, 1.0)
    assert accuracy(log_p_NK, labels_N) == accuracy_score(labels_N, log_p_NK.argmax(1))


def test_of_equal_scores_the_first_class_counts() -> None:
    ties_NK = np.zeros((3, 4))
    assert accuracy(ties_NK, np.array([0, 1, 0])) == pytest.approx(2 / 3)


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


@pytest.mark.parametrize("num_classes", [2, 3, 100])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.0])
def test_nll_and_brier_are_scikit_learns(num_classes: int, sharpness: float) -> None:
    log_p_NK, labels_N = random_predictions(200, num_classes, sharpness)
    labels_N[labels_N == 1] = 0  # class 1 has no image
    classes = list(range(num_classes))
    p_NK = np.exp(log_p_NK)
    assert nll(log_p_NK, labels_N) == pytest.approx(log_loss(labels_N, p_NK, labels=classes), rel=1e-6)
    by_loops = sum((p_NK[n, k] - (k == labels_N[n])) ** 2 for n in range(200) for k in range(num_classes)) / 200
    assert brier(log_p_NK, labels_N) == pytest.approx(by_loops)


def test_brier_of_two_classes_is_twice_scikit_learns() -> None:
    log_p_NK, labels_N = random_predictions(200, 2, 1.5)
    assert brier(log_p_NK, labels_N) == pytest.approx(2 * brier_score_loss(labels_N, np.exp(log_p_NK[:, 1])))


# Expected calibration error


def ece_by_loops(log_p_NK: Array, labels_N: Labels, num_bins: int = 15) -> float:
    """Guo et al. 2017, equation 3, bin after bin: bin b holds confidences in (b / num_bins, (b + 1) / num_bins]."""
    total = 0.0
    for b in range(num_bins):
        hits, confidences = [], []
        for log_p_K, label in zip(log_p_NK, labels_N, strict=True):
            confidence = math.exp(max(log_p_K))
            if b / num_bins < confidence <= (b + 1) / num_bins:
                hits.append(float(np.argmax(log_p_K) == label))
                confidences.append(confidence)
        if hits:
            share = len(hits) / len(labels_N)
            total += share * abs(sum(hits) / len(hits) - sum(confidences) / len(confidences))
    return total


def test_ece_by_hand() -> None:
    # (14/15, 1]: 0.95 right, 0.97 wrong, 1.0 right; (9/15, 10/15]: 0.62 wrong. All other bins are empty.
    log_p_NK = log_of([0.95, 0.05], [0.03, 0.97], [1.0, 0.0], [0.62, 0.38])
    expected = 3 / 4 * abs(2 / 3 - 2.92 / 3) + 1 / 4 * 0.62
    assert ece(log_p_NK, np.array([0, 0, 0, 1])) == pytest.approx(expected)


@pytest.mark.parametrize(("num_classes", "sharpness"), [(2, 1.0), (10, 0.3), (10, 3.0), (100, 2.0)])
def test_ece_is_that_of_loops_over_15_bins(num_classes: int, sharpness: float) -> None:
    log_p_NK, labels_N = random_predictions(400, num_classes, sharpness)
    assert ece(log_p_NK, labels_N) == pytest.approx(ece_by_loops(log_p_NK, labels_N), abs=1e-12)
    assert ece(log_p_NK, labels_N, 5) == pytest.approx(ece_by_loops(log_p_NK, labels_N, 5), abs=1e-12)


def test_full_confidence_is_in_the_last_bin() -> None:
    # One bin, the first wrong: |1/2 - mean(1, 0.95)|. Were 1.0 in a bin of its own, it would be (1 + 0.05) / 2.
    log_p_NK = log_of([1.0, 0.0], [0.95, 0.05])
    assert ece(log_p_NK, np.array([1, 0])) == pytest.approx(0.975 - 0.5)
    barely_over = np.array([[4e-16, -40.0], [math.log(0.95), math.log(0.05)]])  # rounding of a mean of probabilities
    assert ece(barely_over, np.array([1, 0])) == pytest.approx(0.975 - 0.5)


def test_a_bin_holds_its_upper_edge() -> None:
    # Two bins: 0.5 belongs to the first with 0.4, not to the second with 0.9.
    log_p_NK = log_of([0.5, 0.25, 0.25], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05])
    assert ece(log_p_NK, np.array([0, 1, 0]), 2) == pytest.approx(2 / 3 * abs(0.5 - 0.45) + 1 / 3 * 0.1)


def test_perfect_and_hopeless_calibration() -> None:
    sure_NK = log_of([1.0, 0.0], [0.0, 1.0])
    assert ece(sure_NK, np.array([0, 1])) == 0.0
    assert ece(sure_NK, np.array([1, 0])) == 1.0


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
    assert ece(log_p_NK, np.array([1])) == 1.0


def test_half_precision_logits_are_pooled_in_double() -> None:
    logits_MNK = np.random.default_rng(0).normal(size=(3, 50, 10)).astype(np.float16)
    log_p_NK = pool(logits_MNK, "prob_mean")
    assert log_p_NK.dtype == np.float64
    np.testing.assert_allclose(np.exp(log_p_NK).sum(-1), 1.0, rtol=1e-12)


def test_a_member_that_rules_a_class_out_vetoes_it_only_under_the_mean_of_logits() -> None:
    logits_MNK = np.array([[[0.0, -1000.0]], [[0.0, 2.0]]])
    assert pool(logits_MNK, "prob_mean")[0, 1] == pytest.approx(math.log(1 / (1 + math.exp(-2)) / 2))
    assert pool(logits_MNK, "logit_mean")[0, 1] == pytest.approx(-499.0)


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(ValueError, match="prob_mean"):
        pool(np.zeros((1, 1, 2)), "mean")


# Temperature


def temperature_by_scipy(log_p_NK: Array, labels_N: Labels) -> float:
    def loss(log_temperature: float) -> float:
        scaled_NK = log_softmax(log_p_NK / math.exp(log_temperature), axis=-1)
        return float(-scaled_NK[np.arange(len(labels_N)), labels_N].mean())

    bounds = (math.log(0.05), math.log(20.0))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("sharpness", [0.07, 0.3, 1.0, 4.0, 15.0])
def test_temperature_is_the_minimum_that_scipy_finds(num_classes: int, sharpness: float) -> None:
    for seed in range(3):
        log_p_NK, labels_N = random_predictions(300, num_classes, sharpness, seed)
        expected = temperature_by_scipy(log_p_NK, labels_N)
        assert fit_temperature(log_p_NK, labels_N) == pytest.approx(expected, rel=1e-5)


def test_temperature_undoes_known_sharpness() -> None:
    log_p_NK, labels_N = random_predictions(20_000, 4, 2.5)
    temperature = fit_temperature(log_p_NK, labels_N)
    assert temperature == pytest.approx(2.5, rel=0.04)
    assert ece(scale(log_p_NK, temperature), labels_N) < 0.01 < 0.1 < ece(log_p_NK, labels_N)


def test_temperature_ends_at_its_bounds() -> None:
    always_right = log_of([0.6, 0.4], [0.3, 0.7])
    assert fit_temperature(always_right, np.array([0, 1])) == pytest.approx(0.05)
    assert fit_temperature(always_right, np.array([1, 0])) == pytest.approx(20.0)


def test_temperature_minimises_nll_however_confident_a_mistake_is() -> None:
    log_p_NK, labels_N = random_predictions(1000, 10, 1.5)
    log_p_NK[0] = log_softmax(np.where(np.arange(10) == labels_N[0], -3000.0, 0.0))
    expected = temperature_by_scipy(log_p_NK, labels_N)
    assert expected == pytest.approx(10, rel=0.5), "the one mistake weighs in"
    assert fit_temperature(log_p_NK, labels_N) == pytest.approx(expected, rel=1e-3)


def test_a_label_of_probability_zero_leaves_the_temperature_finite() -> None:
    log_p_NK, labels_N = random_predictions(200, 2, 1.0)
    log_p_NK[0] = [0.0, -math.inf] if labels_N[0] else [-math.inf, 0.0]
    assert 0.05 <= fit_temperature(log_p_NK, labels_N) <= 20


def test_scaling_divides_logits() -> None:
    z_NK = np.random.default_rng(0).normal(size=(5, 4)) * 3
    np.testing.assert_allclose(np.exp(scale(log_softmax(z_NK, -1), 2.5)), softmax(z_NK / 2.5, -1))
    assert scale(np.array([[0.0, -1e4]]), 2.0)[0, 1] == pytest.approx(-5e3)


# Disagreement and detection


def test_disagreement_is_the_mean_over_pairs() -> None:
    # Predicted classes: 0 0 1 / 0 1 1 / 1 1 1. Pairs differ on 1, 2 and 1 of 3 images.
    classes_MN = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1]])
    assert disagreement(np.eye(2)[classes_MN]) == pytest.approx((1 + 2 + 1) / 9)
    assert disagreement(np.eye(2)[classes_MN[:1]]) == 0.0
    assert disagreement(np.eye(2)[classes_MN[[0, 0]]]) == 0.0


def test_auroc_by_hand() -> None:
    # Of the 6 pairs 4 are in order, 1 is a tie.
    assert auroc(np.array([0.9, 0.5]), np.array([0.1, 0.5, 0.7])) == pytest.approx(4.5 / 6)
    assert auroc(np.array([1.0]), np.array([0.0])) == 1.0
    assert auroc(np.array([0.0]), np.array([1.0])) == 0.0
    assert auroc(np.ones(3), np.ones(4)) == 0.5


def test_auroc_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 30, 300) / 30, rng.integers(0, 20, 200) / 30
    is_inside = np.r_[np.ones(300), np.zeros(200)]
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(is_inside, np.r_[inside, outside]))
