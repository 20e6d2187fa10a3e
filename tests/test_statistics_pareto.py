"""Fronts of cost and value, and how sure they are."""

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import Estimate, best_probability, estimate_mean, front_probability, pareto_front


def test_front_by_hand() -> None:
    cost_E, value_E = [1.0, 2.0, 2.0, 3.0, 4.0], [0.7, 0.8, 0.75, 0.8, 0.9]
    assert pareto_front(cost_E, value_E, higher_is_better=True).tolist() == [True, True, False, False, True]
    assert pareto_front(cost_E, value_E, higher_is_better=False).tolist() == [True, False, False, False, False]


def test_equal_methods_are_on_the_front_together_and_unknown_ones_are_not() -> None:
    front_E = pareto_front([1.0, 1.0, np.nan, 0.5], [0.7, 0.7, 0.9, np.nan], higher_is_better=True)
    assert front_E.tolist() == [True, True, False, False]


def test_front_is_what_no_other_point_beats() -> None:
    rng = np.random.default_rng(1)
    cost_E, value_E = rng.integers(0, 6, size=(2, 30)).astype(float)
    beaten_E = [
        any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in zip(cost_E, value_E, strict=True))
        for cost, value in zip(cost_E, value_E, strict=True)
    ]
    assert pareto_front(cost_E, value_E, higher_is_better=True).tolist() == [not beaten for beaten in beaten_E]


def fixed(*costs: float) -> list[Estimate]:
    return [Estimate(cost, None, 1) for cost in costs]


def test_the_cheapest_is_on_the_front_and_a_dearer_one_as_surely_as_it_is_better() -> None:
    values = [Estimate(0.80, 0.0, 5), Estimate(0.82, stats.t.ppf(0.975, 4) * 0.01, 5)]
    chance_E = front_probability(fixed(1.0, 2.0), values, higher_is_better=True)
    assert chance_E[0] == 1.0
    assert chance_E[1] == pytest.approx(stats.t.cdf(2.0, 4), abs=0.02)
    worse_E = front_probability(fixed(1.0, 2.0), values, higher_is_better=False)
    assert worse_E[1] == pytest.approx(1 - stats.t.cdf(2.0, 4), abs=0.02)


def test_uncertain_costs_are_drawn() -> None:
    costs = [Estimate(1.0, stats.t.ppf(0.975, 2) * 0.5, 3), Estimate(2.0, None, 1)]
    chance_E = front_probability(costs, [Estimate(0.8, 0.0, 3), Estimate(0.9, 0.0, 3)], higher_is_better=True)
    assert chance_E[0] == pytest.approx(stats.t.cdf(2.0, 2), abs=0.02)
    assert chance_E[1] == 1.0


def test_best_probability_of_two_is_that_of_their_difference() -> None:
    values = [Estimate(1.0, stats.t.ppf(0.975, 200) * 0.3, 201), Estimate(1.5, stats.t.ppf(0.975, 200) * 0.4, 201)]
    chance_E = best_probability(values, higher_is_better=True)
    assert chance_E.sum() == pytest.approx(1.0)
    assert chance_E[1] == pytest.approx(stats.norm.cdf(0.5 / 0.5), abs=0.02)
    np.testing.assert_allclose(best_probability(values, higher_is_better=False), chance_E[::-1], atol=0.03)


def test_equal_certain_values_share_being_best() -> None:
    assert best_probability([Estimate(0.5, 0.0, 3)] * 2, higher_is_better=True).tolist() == [0.5, 0.5]


def test_a_value_of_one_run_is_unknown_and_takes_no_part() -> None:
    values = [Estimate(0.8, 0.01, 3), Estimate(0.99, None, 1), Estimate(0.7, 0.01, 3)]
    assert best_probability(values, higher_is_better=True).tolist() == pytest.approx(
        [1.0, np.nan, 0.0], nan_ok=True, abs=0.01
    )
    chance_E = front_probability(fixed(1.0, 1.0, 0.5), values, higher_is_better=True)
    assert chance_E.tolist() == pytest.approx([1.0, np.nan, 1.0], nan_ok=True, abs=0.01)


def test_one_known_method_among_unknown_ones_has_no_probability() -> None:
    values = [Estimate(0.8, 0.01, 3), Estimate(0.9, None, 1)]
    assert np.isnan(best_probability(values, higher_is_better=True)).all()
    assert np.isnan(front_probability(fixed(1.0, 2.0), values, higher_is_better=True)).all()
    assert np.isnan(best_probability(values[1:] * 2, higher_is_better=True)).all()
    assert best_probability(values[:1], higher_is_better=True).tolist() == [1.0]
    assert best_probability([], higher_is_better=True).tolist() == []


def test_probabilities_of_equal_methods_do_not_favour_any() -> None:
    rng = np.random.default_rng(2)
    chances = [
        best_probability([estimate_mean(rng.normal(size=3)) for _ in range(4)], higher_is_better=True)
        for _ in range(200)
    ]
    np.testing.assert_allclose(np.mean(chances, axis=0), 0.25, atol=0.08)


def test_draws_repeat_to_the_bit() -> None:
    values = [Estimate(0.8, 0.01, 3), Estimate(0.81, 0.02, 5)]
    first, second = (front_probability(fixed(1.0, 2.0), values, higher_is_better=True) for _ in range(2))
    assert first.tobytes() == second.tobytes()
