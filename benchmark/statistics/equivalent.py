"""The deep-ensemble equivalent: how many independently trained networks reach the same loss.

Ashukha et al., Pitfalls of In-Domain Uncertainty Estimation (ICLR 2020): the size at which the loss of
deep ensembles, linear between whole sizes, is that of the method. Their loss is calibrated log-likelihood.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmark.statistics.estimate import Estimate, estimate_mean


@dataclass(frozen=True)
class Equivalent:
    """A number of networks, with an interval that is None where one run gives none.

    What lies outside of the sizes measured is censored: `size` is then the end that it lies beyond. `low` is 0 and
    `high` is infinite where the interval goes on beyond an end.
    """

    size: float
    low: float | None
    high: float | None
    censored: bool
    smallest: int
    largest: int

    @property
    def text(self) -> str:
        """`2.3 [1.8, > 3]`, `> 3 [2.2, > 3]`; `> 3` where the whole interval is out there, or there is none."""
        below, above = f"< {self.smallest}", f"> {self.largest}"
        size = f"{self.size:.1f}" if not self.censored else below if self.size == self.smallest else above
        if self.low is None or self.high is None or self.low > self.largest or self.high < self.smallest:
            return size
        low = below if self.low < self.smallest else f"{self.low:.1f}"
        high = above if self.high > self.largest else f"{self.high:.1f}"
        return f"{size} [{low}, {high}]"


def deep_ensemble_equivalent(values_S: Sequence[float], curve: Mapping[int, Sequence[float]]) -> Equivalent:
    """The equivalent by a loss, lower is better: `curve` has the runs' losses for each size of deep ensemble.

    The size is where the curve of means, coming from the smallest, first gets as low as the method's mean. The interval
    reaches over all sizes whose loss is not significantly different at 5 %: where

        |method - curve(size)| ≤ √(h² + h(size)²)

    with h the half width of the method's mean, and h(size) that of the curve, linear between whole sizes like the curve
    itself. As a standard deviation is at most linear there, it may be the same runs that the two ends are means of, or
    others: the interval covers with at least 95 % (see comparison.py), if the truth is linear between whole sizes.
    """
    method = _estimate(values_S)
    sizes = sorted(curve)
    points = [_estimate(curve[size]) for size in sizes]
    reached = [index for index, point in enumerate(points) if point.mean <= method.mean]
    censored = not reached or points[0].mean < method.mean
    if not reached:
        size = float(sizes[-1])
    elif reached[0] == 0:
        size = float(sizes[0])
    else:
        before, after = reached[0] - 1, reached[0]
        share = (points[before].mean - method.mean) / (points[before].mean - points[after].mean)
        size = sizes[before] + share * (sizes[after] - sizes[before])
    low, high = _interval(method, sizes, points, bool(reached), None if censored else size)
    return Equivalent(size, low, high, censored, sizes[0], sizes[-1])


def _estimate(values: Sequence[float]) -> Estimate:
    estimate = estimate_mean(values)
    if estimate is None:
        raise ValueError("a deep-ensemble equivalent takes a run of the method and of each size")
    return estimate


def _interval(
    method: Estimate, sizes: list[int], points: list[Estimate], reached: bool, size: float | None
) -> tuple[float | None, float | None]:
    widths = [point.half_width for point in points]
    if method.half_width is None or None in widths:
        return None, None
    gap_E = np.array([point.mean - method.mean for point in points])
    width_E = np.array(widths, dtype=np.float64)
    alike_E = np.abs(gap_E) <= np.hypot(method.half_width, width_E)
    ends = [float(size) for size, alike in zip(sizes, alike_E, strict=True) if alike]
    if size is not None:
        ends.append(size)
    for index in range(len(sizes) - 1):
        step = sizes[index + 1] - sizes[index]
        shares = _crossings(gap_E[index : index + 2], width_E[index : index + 2], method.half_width)
        ends += [sizes[index] + share * step for share in shares]
    if not ends:
        return (math.inf, math.inf) if not reached else (0.0, 0.0)
    return 0.0 if alike_E[0] else min(ends), math.inf if alike_E[-1] else max(ends)


def _crossings(gaps: npt.NDArray[np.float64], widths: npt.NDArray[np.float64], half_width: float) -> list[float]:
    """Shares of the way between two sizes at which gap² = half_width² + width², both linear on the way."""
    (gap, next_gap), (width, next_width) = gaps, widths
    slope, growth = next_gap - gap, next_width - width
    quadratic = [slope**2 - growth**2, 2 * (gap * slope - width * growth), gap**2 - width**2 - half_width**2]
    roots = np.roots(quadratic)
    return [float(root.real) for root in roots if abs(root.imag) < 1e-9 and 0 <= root.real <= 1]
