"""Temperature: the minimum that other searches find, and what cross-validation scores on what."""

import math

import numpy as np
import pytest
from predictions import confidence_and_hits, log_of, random_predictions
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from benchmark.metrics.calibration import ece, nll
from benchmark.metrics.temperature import cross_validate, fit_temperature, halvings, scale
from benchmark.metrics.typing import Array, Labels


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
    assert ece(*confidence_and_hits(scale(log_p_NK, temperature), labels_N)) < 0.01
    assert ece(*confidence_and_hits(log_p_NK, labels_N)) > 0.1


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


@pytest.mark.parametrize(("num_images", "num_classes"), [(300, 2), (500, 100)])
def test_temperature_is_nelder_meads_to_four_digits(num_images: int, num_classes: int) -> None:
    for sharpness in (0.4, 1.0, 3.0):
        log_p_NK, labels_N = random_predictions(num_images, num_classes, sharpness)
        found = minimize(
            lambda t, log_p_NK=log_p_NK, labels_N=labels_N: nll(log_softmax(log_p_NK / t[0], axis=-1), labels_N),
            [1.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13},
        )  # fmt: skip
        assert fit_temperature(log_p_NK, labels_N) == pytest.approx(found.x[0], abs=1e-4)


def test_temperature_does_not_depend_on_where_the_search_starts() -> None:
    log_p_NK, labels_N = random_predictions(300, 10, 2.0)
    expected = fit_temperature(log_p_NK, labels_N)
    for start in (0.05, 0.3, 2.5, 20.0):
        assert fit_temperature(log_p_NK, labels_N, start) == pytest.approx(expected, rel=1e-5)


def test_scaling_keeps_what_has_no_probability() -> None:
    scaled_NK = scale(log_of([0.5, 0.5, 0.0]), 2.0)
    np.testing.assert_allclose(np.exp(scaled_NK), [[0.5, 0.5, 0.0]])
    assert scaled_NK[0, 2] == -math.inf


# Cross-validation


def test_halvings_are_five_partitions_and_the_same_every_time() -> None:
    assert len(halvings(11)) == 5
    for first, second in halvings(11):
        assert (len(first), len(second)) == (5, 6)
        assert sorted([*first, *second]) == list(range(11))
    for ours, again in zip(halvings(100), halvings(100), strict=True):
        np.testing.assert_array_equal(ours[0], again[0])
    assert len({tuple(sorted(first)) for first, _ in halvings(100)}) == 5


def test_each_half_is_scaled_by_the_temperature_of_the_other() -> None:
    log_p_NK, labels_N = random_predictions(201, 5, 2.0)
    folds = list(cross_validate(log_p_NK, labels_N))
    assert len(folds) == 10
    pairs = [pair for first, second in halvings(201) for pair in ((first, second), (second, first))]
    for (temperature, scaled_NK, half_N), (fitted, scored) in zip(folds, pairs, strict=True):
        expected = temperature_by_scipy(log_p_NK[fitted], labels_N[fitted])
        assert temperature == pytest.approx(expected, rel=1e-5)
        np.testing.assert_array_equal(half_N, labels_N[scored])
        np.testing.assert_allclose(scaled_NK, log_softmax(log_p_NK[scored] / expected, axis=-1), atol=1e-3)


def test_one_image_has_no_halves() -> None:
    assert not list(cross_validate(log_of([0.5, 0.5]), np.array([0])))
    assert len(list(cross_validate(log_of([0.6, 0.4], [0.4, 0.6]), np.array([0, 0])))) == 10
