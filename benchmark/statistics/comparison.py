"""Two methods compared: the difference of their means, its interval, its p-value, and what more runs would tell.

The variance of a difference of means is a sum of parts V_i, from the seeds of the first method, the seeds of the second
and the test images. Each is estimated by v_i, which scatters like V_i χ²(ν_i) / ν_i. The interval is

    difference ± √(Σ t(1 - α/2, ν_i)² v_i)

so that the half widths of the single parts, each with its own t quantile, add up like the legs of a right triangle. It
covers with at least 1 - α whatever the V_i are (Banerjee, Sankhya 1960). The proof: with weights w_i = V_i / Σ V, the
probability to cover given all v is G(Σ w_i t_i² v_i / V_i), G being the distribution function of χ²(1). As G is
concave, that is at least Σ w_i G(t_i² v_i / V_i), and the mean of each of these G is 1 - α by the definition of t_i.

Welch's test has one t quantile for the sum, with degrees of freedom estimated from the v_i. With few runs that is
liberal: where it should call 5 % of equal methods different, it calls 6 % for 2 against 2 runs, 10 % for 2 against 5,
and 13 % for two runs whose variance is added to a known one of images. At the levels that Holm's method asks for it is
worse still: 6 % in place of 0.25 % in the last case. The price of holding the rate is power with few runs.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtr, stdtrit

from benchmark.statistics.estimate import CONFIDENCE

ALPHA = 1 - CONFIDENCE
POWER = 0.8
MOST_SEEDS = 10_000
"""More runs of one method are not looked at."""

SMALLEST_P = 1e-100
"""Smaller p-values are 0."""

NODES = 32
"""Quantiles that stand for a χ² distribution in the calculation of power."""

MANY = 200
"""Degrees of freedom from which a variance counts as known in the calculation of power."""

Array = npt.NDArray[np.float64]
Part = tuple[float, float]
"""A part v of the variance of a difference and its degrees of freedom ν."""


@dataclass(frozen=True)
class Scatter:
    """What makes a difference uncertain: the variances of one run of either method, and of the images' mean."""

    first: float
    second: float
    images: float = 0.0
    images_freedom: float = math.inf

    def parts(self, num_first: int, num_second: int) -> list[Part]:
        parts = [(self.first / num_first, num_first - 1.0), (self.second / num_second, num_second - 1.0)]
        return [part for part in [*parts, (self.images, self.images_freedom)] if part[0] > 0]


@dataclass(frozen=True)
class Comparison:
    """The first method minus the second. `half_width` of the 95 % interval and the two-sided, unadjusted `p_value` are
    None, like `scatter`, where either method has one run."""

    difference: float
    half_width: float | None
    p_value: float | None
    num_first: int
    num_second: int
    scatter: Scatter | None = None
    level: float = ALPHA
    """The p-value below which a difference counts as found, where it is asked what would find it."""

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.difference - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.difference + self.half_width

    @functools.cached_property
    def detectable(self) -> float | None:
        """The smallest true difference that as many runs would find with 80 % probability."""
        if self.scatter is None:
            return None
        parts = self.scatter.parts(self.num_first, self.num_second)
        if not parts:
            return 0.0
        largest = margin(parts, self.level)
        while power(largest, parts, self.level) < POWER:
            largest *= 2
        return float(brentq(lambda difference: power(difference, parts, self.level) - POWER, 0, largest, rtol=1e-6))

    @functools.cached_property
    def seeds_needed(self) -> int | None:
        """Runs of each method that would find, with 80 % probability, a true difference as large as the one seen.

        By a variance of (first + second) / n + images for n runs each. None where it is unknown (one run), or where
        neither endless runs would do (see images_limit) nor 10,000.
        """
        if self.scatter is None or self.difference == 0 or self.images_limit or not self._found_by(MOST_SEEDS):
            return None
        few, many = 1, 2
        while not self._found_by(many):
            few, many = many, min(2 * many, MOST_SEEDS)
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self._found_by(middle) else (middle, many)
        return many

    @functools.cached_property
    def images_limit(self) -> bool:
        """Whether even endless runs would miss a true difference as large as the one seen: too few test images."""
        if self.scatter is None or self.scatter.images == 0:
            return False
        return power(self.difference, [(self.scatter.images, self.scatter.images_freedom)], self.level) < POWER

    def _found_by(self, num_seeds: int) -> bool:
        assert self.scatter is not None
        return power(self.difference, self.scatter.parts(num_seeds, num_seeds), self.level) >= POWER


def compare_runs(first_S: Sequence[float] | Array, second_S: Sequence[float] | Array) -> Comparison:
    """Two methods by one number per run, over seeds alone: costs, and metrics that are no means over test images.

    The question is Welch's: two means whose variances may differ (Welch, Biometrika 1947). Its answer is the interval
    above, as Welch's is liberal with few runs. Each side needs a run.
    """
    first_S, second_S = (np.asarray(values, dtype=np.float64) for values in (first_S, second_S))
    if not first_S.size or not second_S.size:
        raise ValueError("a comparison takes at least one run of either method")
    difference = mean_of(first_S) - mean_of(second_S)
    if min(first_S.size, second_S.size) < 2:
        return Comparison(difference, None, None, first_S.size, second_S.size)
    return judge(difference, Scatter(variance_of(first_S), variance_of(second_S)), first_S.size, second_S.size)


def judge(difference: float, scatter: Scatter, num_first: int, num_second: int) -> Comparison:
    parts = scatter.parts(num_first, num_second)
    return Comparison(difference, margin(parts, ALPHA), p_value(difference, parts), num_first, num_second, scatter)


def mean_of(values_S: Array) -> float:
    """The mean; of equal values that value, to its last bit."""
    return float(values_S[0] if values_S.min() == values_S.max() else values_S.mean())


def variance_of(values_S: Array) -> float:
    """The unbiased variance; of equal values exactly 0."""
    return 0.0 if values_S.min() == values_S.max() else float(values_S.var(ddof=1))


def margin(parts: Sequence[Part], alpha: float) -> float:
    """The half width √(Σ t(1 - α/2, ν)² v); 0 without parts."""
    return math.sqrt(sum(float(stdtrit(freedom, alpha / 2)) ** 2 * variance for variance, freedom in parts))


def p_value(difference: float, parts: Sequence[Part]) -> float:
    """The level at which the interval ends at 0. Of a difference without variance 0, of no difference 1."""
    distance = abs(difference)
    if distance == 0:
        return 1.0
    if margin(parts, SMALLEST_P) <= distance:
        return 0.0
    freedoms = {freedom for _, freedom in parts}
    if len(freedoms) == 1:  # one t quantile for all: no search
        return float(2 * stdtr(freedoms.pop(), -distance / math.sqrt(sum(variance for variance, _ in parts))))
    return math.exp(brentq(lambda log_p: margin(parts, math.exp(log_p)) - distance, math.log(SMALLEST_P), 0.0))


def power(difference: float, parts: Sequence[Part], level: float = ALPHA) -> float:
    """The probability that a true difference is found at p < level, the estimated variances taken for the true ones.

    Over normal differences, and over the χ² scatter of the variances that the test will estimate.
    """
    squared = np.zeros(1)
    for variance, freedom in parts:
        quantile = float(stdtrit(freedom, level / 2))
        squared = np.add.outer(squared, quantile**2 * variance * _chi_squares(freedom)).ravel()
    deviation = math.sqrt(sum(variance for variance, _ in parts))
    if deviation == 0:
        return float(difference != 0)
    margins, distance = np.sqrt(squared) / deviation, abs(difference) / deviation
    return float((ndtr(distance - margins) + ndtr(-distance - margins)).mean())


@functools.lru_cache(maxsize=1000)
def _chi_squares(freedom: float) -> Array:
    """χ² / ν at the middles of NODES equally likely ranges; 1 alone where it is close to that."""
    if freedom >= MANY:
        return np.ones(1)
    return np.asarray(chdtri(freedom, (np.arange(NODES) + 0.5) / NODES) / freedom)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted over all comparisons made, in their order; None is no comparison and stays None.

    Step-down (Holm, Scandinavian Journal of Statistics 1979): of m sorted p-values the i-th becomes
    max over j ≤ i of min(1, (m - j + 1) p_j). All those below α are then true differences with probability 1 - α.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for rank, (p, index) in enumerate(known):
        reached = max(reached, min(1.0, (len(known) - rank) * p))
        adjusted[index] = reached
    return adjusted
