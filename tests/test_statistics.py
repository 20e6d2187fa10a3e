"""Means and intervals over seeds."""

import math

import numpy as np
import pytest

from benchmark.statistics import Estimate, estimate_mean


def t_density(x: np.ndarray, freedom: int) -> np.ndarray:
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)


@pytest.mark.parametrize("num_values", [2, 3, 5, 11])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_holds_the_asked_share_of_the_t_density(num_values: int, confidence: float) -> None:
    values = np.random.default_rng(num_values).normal(size=num_values)
    estimate = estimate_mean(values, confidence)
    standard_error = math.sqrt(sum((x - values.mean()) ** 2 for x in values) / (num_values - 1) / num_values)
    x = np.linspace(0, estimate.half_width / standard_error, 200_001)
    inside = 2 * np.trapezoid(t_density(x, num_values - 1), x)
    assert inside == pytest.approx(confidence, abs=1e-7)


def test_interval_of_three_seeds_by_hand() -> None:
    estimate = estimate_mean([0.80, 0.82, 0.84])
    assert estimate.mean == pytest.approx(0.82)
    assert estimate.half_width == pytest.approx(4.302653 * 0.02 / math.sqrt(3), rel=1e-6)
    assert estimate.num_values == 3


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    samples = np.random.default_rng(7).normal(3.0, 2.0, size=(4000, 3))
    covered = np.mean([abs(e.mean - 3.0) <= e.half_width for e in map(estimate_mean, samples)])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_one_run_has_no_interval_and_none_has_no_mean() -> None:
    assert estimate_mean([0.5]) == Estimate(0.5, None, 1)
    assert estimate_mean([]) is None


def test_equal_values_keep_their_last_bit() -> None:
    assert estimate_mean([0.1] * 3) == Estimate(0.1, 0.0, 3)


def test_overlap_needs_two_intervals() -> None:
    narrow, wide, alone = Estimate(1.0, 0.1, 3), Estimate(2.0, 0.95, 3), Estimate(1.0, None, 1)
    assert narrow.overlaps(wide) is True
    assert narrow.overlaps(Estimate(2.0, 0.8, 3)) is False
    assert narrow.overlaps(alone) is None
    assert alone.overlaps(narrow) is None
