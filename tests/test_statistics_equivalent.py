"""How many networks of a deep ensemble a method is worth."""

import math

import numpy as np
import pytest

from benchmark.statistics import Equivalent, deep_ensemble_equivalent


def around(mean: float, half_range: float = 0.001) -> list[float]:
    return [mean - half_range, mean, mean + half_range]


CURVE = {1: around(1.0), 2: around(0.8), 3: around(0.7)}


@pytest.mark.parametrize(("loss", "size"), [(1.0, 1.0), (0.9, 1.5), (0.8, 2.0), (0.75, 2.5), (0.7, 3.0)])
def test_size_is_linear_between_whole_sizes(loss: float, size: float) -> None:
    found = deep_ensemble_equivalent([loss] * 3, {k: [v[1]] * 3 for k, v in CURVE.items()})
    assert (found.size, found.censored) == (pytest.approx(size), False)


def test_interval_by_hand() -> None:
    found = deep_ensemble_equivalent(around(0.9, 0.01), CURVE)
    # Half widths t(2) s / √3 with s the half ranges; the curve has the same one at both ends.
    margin = 4.302653 / math.sqrt(3) * math.hypot(0.01, 0.001)
    assert found.size == pytest.approx(1.5)
    assert (found.low, found.high) == pytest.approx((1.5 - margin / 0.2, 1.5 + margin / 0.2), rel=1e-6)
    assert found.text == "1.5 [1.4, 1.6]"


def test_interval_crosses_whole_sizes_and_sizes_may_be_missing() -> None:
    crossing = deep_ensemble_equivalent(around(0.79, 0.02), CURVE)
    assert crossing.low < 2 < crossing.high
    gap = deep_ensemble_equivalent([0.85] * 2, {1: [1.0] * 2, 4: [0.7] * 2})
    assert (gap.size, gap.low, gap.high) == pytest.approx((2.5, 2.5, 2.5))


def test_what_lies_beyond_the_sizes_is_censored() -> None:
    assert deep_ensemble_equivalent(around(0.5), CURVE) == Equivalent(3.0, math.inf, math.inf, True, 1, 3)
    assert deep_ensemble_equivalent(around(0.5), CURVE).text == "> 3"
    assert deep_ensemble_equivalent(around(1.5), CURVE) == Equivalent(1.0, 0.0, 0.0, True, 1, 3)
    assert deep_ensemble_equivalent(around(1.5), CURVE).text == "< 1"


def test_ends_of_the_interval_are_censored() -> None:
    single = deep_ensemble_equivalent(around(1.0, 0.01), CURVE)
    assert (single.size, single.low, single.censored) == (1.0, 0.0, False)
    assert single.text == "1.0 [< 1, 1.1]"
    assert deep_ensemble_equivalent(around(0.69, 0.02), CURVE).text == "> 3 [2.6, > 3]"
    assert deep_ensemble_equivalent(around(1.01, 0.01), CURVE).text == "< 1 [< 1, 1.1]"
    assert deep_ensemble_equivalent(around(0.85, 0.3), CURVE).text == "1.8 [< 1, > 3]"


def test_one_run_has_no_interval() -> None:
    assert deep_ensemble_equivalent([0.9], CURVE).text == "1.5"
    assert deep_ensemble_equivalent(around(0.9), CURVE | {2: [0.8]}).low is None
    assert deep_ensemble_equivalent([0.5], CURVE).text == "> 3"
    with pytest.raises(ValueError, match="takes a run"):
        deep_ensemble_equivalent([], CURVE)


def test_a_curve_that_rises_again_is_crossed_where_it_first_falls() -> None:
    found = deep_ensemble_equivalent([0.8] * 2, {1: [1.0] * 2, 2: [0.7] * 2, 3: [0.9] * 2, 4: [0.6] * 2})
    assert found.size == pytest.approx(1 + 2 / 3)


@pytest.mark.parametrize("num_runs", [2, 3, 5])
@pytest.mark.parametrize("size", [1.0, 1.4, 2.5, 4.0])
@pytest.mark.parametrize("same_runs", [True, False])
def test_intervals_cover(num_runs: int, size: float, same_runs: bool) -> None:
    """NLL(k) = 0.7 + 0.3 / k, with ensembles of different sizes from the same runs or from runs of their own."""
    rng, num_studies = np.random.default_rng(1), 500
    truth = {k: 0.7 + 0.3 / k for k in range(1, 5)}
    loss = float(np.interp(size, list(truth), list(truth.values())))
    missed = 0
    for _ in range(num_studies):
        shared = rng.normal(size=num_runs)
        curve = {k: nll + 0.02 / k * (shared if same_runs else rng.normal(size=num_runs)) for k, nll in truth.items()}
        found = deep_ensemble_equivalent(loss + 0.01 * rng.normal(size=num_runs), curve)
        missed += not found.low <= size <= found.high
    assert missed / num_studies <= 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / num_studies)
