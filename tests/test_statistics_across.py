"""Methods over several tasks: interquartile mean, probability of improvement, ranks."""

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import (
    Interval,
    average_ranks,
    critical_difference,
    friedman_p,
    interquartile_mean,
    probability_of_improvement,
)
from benchmark.statistics.across import nemenyi_quantile

ACCURACY_TE = np.array(  # Demšar 2006, section 3.2.2: C4.5, with m, with cf, with both, on 14 data sets
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # he ranks by more digits: 4, 1, 2, 3
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_ranks_and_friedman_of_demsars_example() -> None:
    rank_E = average_ranks(ACCURACY_TE, higher_is_better=True)
    np.testing.assert_allclose(rank_E, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    # He gives 9.28 without the correction for ties, which makes it higher.
    assert friedman_p(ACCURACY_TE) == pytest.approx(stats.friedmanchisquare(*ACCURACY_TE.T).pvalue, rel=1e-9)
    assert friedman_p(ACCURACY_TE) < stats.chi2.sf(9.28, 3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_ranks_with_ties_and_either_direction() -> None:
    values_TE = [[0.1, 0.3, 0.3], [5.0, 6.0, 7.0]]
    assert average_ranks(values_TE, higher_is_better=True).tolist() == [3.0, 1.75, 1.25]
    assert average_ranks(values_TE, higher_is_better=False).tolist() == [1.0, 2.25, 2.75]
    assert friedman_p([[1.0, 1.0], [2.0, 2.0]]) == 1.0
    assert friedman_p([[1.0, 2.0]] * 4) == pytest.approx(stats.chi2.sf(4.0, 1))


@pytest.mark.parametrize(
    ("num_methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_nemenyi_quantiles_are_demsars(num_methods: int, quantile: float) -> None:
    assert nemenyi_quantile(num_methods) == pytest.approx(quantile, abs=1e-3)


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean([[0.0, 1.0, 2.0, 3.0], [10.0, 20.0, 30.0, 99.0]]).value == pytest.approx(36 / 4 - 0.25)
    assert interquartile_mean([[1.0, 2.0, 9.0], [4.0, 3.0]]).value == pytest.approx(3.0)
    assert interquartile_mean([[1.0], [2.0, 3.0]]) == Interval(2.0, None, None)


def test_interquartile_mean_of_one_task_is_as_sure_as_its_runs() -> None:
    """With three runs nothing is left out, and the interval is nearly Student's."""
    values_S = np.array([0.80, 0.82, 0.84])
    found = interquartile_mean([values_S])
    assert (found.high - found.low) / 2 == pytest.approx(4.303 * 0.02 / np.sqrt(3), rel=0.05)
    assert found == interquartile_mean([values_S])


@pytest.mark.parametrize(("num_tasks", "num_runs"), [(1, 5), (3, 3), (8, 5)])
def test_interquartile_mean_covers(num_tasks: int, num_runs: int) -> None:
    rng = np.random.default_rng(1)
    level_T = np.linspace(0, 3, num_tasks)[:, None]
    truth = np.mean(
        [stats.trim_mean(level_T + rng.normal(size=(num_tasks, num_runs)), 0.25, axis=None) for _ in range(4000)]
    )
    found = [interquartile_mean(level_T + rng.normal(size=(num_tasks, num_runs))) for _ in range(300)]
    missed = np.mean([not one.low <= truth <= one.high for one in found])
    assert missed <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / 300)


def test_probability_of_improvement_is_the_share_of_pairs_won() -> None:
    found = probability_of_improvement([[1.0, 3.0], [2.0, 2.0, 5.0]], [[2.0, 2.0], [2.0, 1.0]])
    assert found.value == pytest.approx((2 / 4 + 5 / 6) / 2)
    swapped = probability_of_improvement([[2.0, 2.0], [2.0, 1.0]], [[1.0, 3.0], [2.0, 2.0, 5.0]])
    assert swapped.value == pytest.approx(1 - found.value)
    lower = probability_of_improvement([[2.0, 2.0], [2.0, 1.0]], [[1.0, 3.0], [2.0, 2.0, 5.0]], higher_is_better=False)
    assert lower.value == pytest.approx(found.value)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert probability_of_improvement([[1.0]], [[2.0, 3.0]]) == Interval(0.0, None, None)


def test_probability_of_improvement_is_not_certain_when_all_pairs_are_won() -> None:
    found = probability_of_improvement([[2.0, 3.0, 4.0]] * 2, [[0.0, 1.0, 1.5]] * 2)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 6))


def test_probability_of_improvement_is_not_certain_when_tasks_are_won_and_lost_entirely() -> None:
    """Of two tasks one is won by three runs, the other lost by two: either may be less decided than it looks."""
    found = probability_of_improvement([[2.0, 3.0, 4.0], [0.0, 0.1, 0.2]], [[0.0, 1.0, 1.5], [1.0, 2.0]])
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5 * 0.025 ** (1 / 3), 1 - 0.5 * 0.025 ** (1 / 2)))


def test_probability_of_improvement_has_the_interval_of_endless_draws() -> None:
    rng = np.random.default_rng(3)
    first_by_task, second_by_task = rng.normal(0.5, size=(2, 4)), rng.normal(size=(2, 6))
    first_by_task[0, 0] = second_by_task[0, 0]  # a tie
    found = probability_of_improvement(first_by_task, second_by_task)
    drawn_TR = [
        [np.mean(np.sign(rng.choice(a, (4, 1)) - rng.choice(b, 6)) / 2 + 0.5) for _ in range(8000)]
        for a, b in zip(first_by_task, second_by_task, strict=True)
    ]
    half_width = stats.t.ppf(0.975, 3) * np.sqrt(4 / 3) * np.std(np.mean(drawn_TR, axis=0))
    odds = np.log([found.low / (1 - found.low), found.high / (1 - found.high)])
    assert np.diff(odds)[0] / 2 == pytest.approx(half_width / found.value / (1 - found.value), rel=0.04)


@pytest.mark.parametrize("advantage", [0.0, 1.0, 1.5, 2.5])
@pytest.mark.parametrize(("num_tasks", "num_runs"), [(1, 3), (4, 3), (4, 5), (1, 10), (1, 20)])
def test_probability_of_improvement_covers(advantage: float, num_tasks: int, num_runs: int) -> None:
    rng, truth = np.random.default_rng(2), stats.norm.cdf(advantage / np.sqrt(2))
    missed = 0
    for _ in range(300):
        first_TS = advantage + rng.normal(size=(num_tasks, num_runs))
        found = probability_of_improvement(first_TS, rng.normal(size=(num_tasks, num_runs)))
        missed += not found.low <= truth <= found.high
    assert missed / 300 <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / 300)
