"""Comparisons of runs, p-values of many comparisons, and what more runs would tell."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import Comparison, compare_runs, estimate_mean, holm
from benchmark.statistics.comparison import POWER, Scatter, judge, p_value


def bound(rate: float, num_studies: int) -> float:
    """What a rate is seen to exceed once in 1,000 times."""
    return rate + 3.1 * np.sqrt(rate * (1 - rate) / num_studies)


@pytest.mark.parametrize("num_runs", [(2, 2), (3, 3), (2, 5), (3, 10)])
@pytest.mark.parametrize("deviation", [1.0, 0.3, 0.05, 0.0])
def test_equal_methods_are_not_called_different_too_often(num_runs: tuple[int, int], deviation: float) -> None:
    """Also where one method scatters more and has fewer runs, for which Welch's test calls 10 % different."""
    rng, num_studies = np.random.default_rng(1), 2000
    p_values = np.array(
        [
            compare_runs(rng.normal(size=num_runs[0]), deviation * rng.normal(size=num_runs[1])).p_value
            for _ in range(num_studies)
        ]
    )
    for level in (0.05, 0.01):
        assert (p_values < level).mean() <= bound(level, num_studies)


def test_half_widths_of_two_means_add_like_legs_of_a_right_triangle() -> None:
    first_S, second_S = [0.80, 0.82, 0.84], [0.70, 0.75, 0.71, 0.74]
    found = compare_runs(first_S, second_S)
    legs = estimate_mean(first_S).half_width, estimate_mean(second_S).half_width
    assert found.difference == pytest.approx(0.82 - 0.725)
    assert found.half_width == pytest.approx(np.hypot(*legs))
    assert (found.low, found.high) == (found.difference - found.half_width, found.difference + found.half_width)


def test_p_value_against_a_fixed_cost_is_that_of_a_t_test() -> None:
    first_S = [1.0, 1.2, 0.9, 1.3]
    found = compare_runs(first_S, [0.8, 0.8])
    assert found.p_value == pytest.approx(stats.ttest_1samp(first_S, 0.8).pvalue, rel=1e-9)


def test_p_value_is_the_level_whose_interval_ends_at_zero() -> None:
    for distance, freedom in itertools.product([0.1, 1.0, 30.0, 1e4], [1.0, 4.0, 999.0]):
        assert p_value(-distance, [(1.0, freedom)]) == pytest.approx(2 * stats.t.sf(distance, freedom), rel=1e-6)


def test_constant_runs() -> None:
    assert compare_runs([0.1] * 3, [0.1] * 2) == Comparison(0.0, 0.0, 1.0, 3, 2, Scatter(0.0, 0.0))
    apart = compare_runs([0.3] * 3, [0.1] * 2)
    assert (apart.half_width, apart.p_value, apart.detectable, apart.seeds_needed) == (0.0, 0.0, 0.0, 2)
    assert not apart.images_limit


def test_one_run_gives_a_difference_only() -> None:
    assert compare_runs([0.5], [0.25, 0.5, 0.75]) == Comparison(0.0, None, None, 1, 3)
    with pytest.raises(ValueError, match="at least one run"):
        compare_runs([], [0.25])


def share_found(
    difference: float, scatter: Scatter, num_runs: int, rng: np.random.Generator, num_studies: int = 4000
) -> float:
    """How often a true difference is found by as many runs a side; the images' variance is known."""
    found = 0
    for _ in range(num_studies):
        first_S = (
            difference + np.sqrt(scatter.images) * rng.normal() + np.sqrt(scatter.first) * rng.normal(size=num_runs)
        )
        second_S = np.sqrt(scatter.second) * rng.normal(size=num_runs)
        seen = Scatter(first_S.var(ddof=1), second_S.var(ddof=1), scatter.images, scatter.images_freedom)
        found += judge(float(first_S.mean() - second_S.mean()), seen, num_runs, num_runs).p_value < 0.05
    return found / num_studies


@pytest.mark.parametrize("scatter", [Scatter(1.0, 1.0), Scatter(1.0, 0.1), Scatter(1.0, 0.5, 0.5, 9999)])
@pytest.mark.parametrize("num_runs", [2, 3, 5])
def test_detectable_difference_is_found_four_times_out_of_five(scatter: Scatter, num_runs: int) -> None:
    detectable = judge(0.1, scatter, num_runs, num_runs).detectable
    assert share_found(detectable, scatter, num_runs, np.random.default_rng(2)) == pytest.approx(POWER, abs=0.025)


@pytest.mark.parametrize("difference", [0.7, 1.5, 3.0])
@pytest.mark.parametrize("images", [0.0, 0.05])
def test_seeds_needed_are_enough_and_one_fewer_is_not(difference: float, images: float) -> None:
    scatter = Scatter(1.0, 0.6, images, 9999)
    needed = judge(difference, scatter, 2, 2).seeds_needed
    assert needed > 2
    rng = np.random.default_rng(3)
    fewer, enough = (share_found(difference, scatter, num_runs, rng) for num_runs in (needed - 1, needed))
    assert fewer < POWER + 0.025
    assert enough > POWER - 0.025
    assert judge(difference, scatter, needed, needed).detectable <= difference
    assert judge(difference, scatter, needed - 1, needed - 1).detectable > difference


def test_a_stricter_level_needs_more_seeds_and_finds_larger_differences() -> None:
    comparison = judge(1.5, Scatter(1.0, 0.6), 5, 5)
    strict = replace(comparison, level=0.05 / 20)
    assert strict.seeds_needed > comparison.seeds_needed
    assert strict.detectable > comparison.detectable
    needed = strict.seeds_needed
    assert replace(judge(1.5, Scatter(1.0, 0.6), needed, needed), level=0.05 / 20).detectable <= 1.5


def test_too_few_images_are_said_to_be_the_limit() -> None:
    """Endless runs leave the images' variance: differences of 2.8 of its standard deviations are found by 80 %."""
    below, above = (judge(factor * 0.1, Scatter(1.0, 1.0, 0.01, 1e6), 5, 5) for factor in (2.75, 2.85))
    assert (below.images_limit, below.seeds_needed) == (True, None)
    assert not above.images_limit
    assert above.seeds_needed > 100


def test_no_difference_needs_no_number_of_runs() -> None:
    assert judge(0.0, Scatter(1.0, 1.0), 3, 3).seeds_needed is None
    assert judge(1e-6, Scatter(1.0, 1.0), 3, 3).seeds_needed is None
    assert judge(0.0, Scatter(1.0, 1.0, 0.1, 99), 3, 3).images_limit


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04, 0.03, None, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, None, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


def test_holm_holds_the_rate_of_a_whole_table() -> None:
    rng = np.random.default_rng(4)
    wrong = [min(holm([*rng.random(9), 1e-6])[:9]) < 0.05 for _ in range(4000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.012)
