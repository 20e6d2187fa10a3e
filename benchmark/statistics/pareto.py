"""Which methods are worth their cost, and how surely.

A method is on the Pareto front if no other costs at most as much and is at least as good, one of the two strictly.

Probabilities are shares of seeded draws of each method's true mean: mean + standard error · t, with t from Student's
distribution with n - 1 degrees of freedom, independent between methods. A cost without an interval is certain. A value
without one is unknown: the method's probability is NaN, and it takes no part in those of the others; where fewer than
two of several methods are known, all are NaN.
"""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from benchmark.statistics.comparison import Array
from benchmark.statistics.estimate import CONFIDENCE, Estimate

NUM_DRAWS = 4000


def pareto_front(cost_E: npt.ArrayLike, value_E: npt.ArrayLike, higher_is_better: bool) -> npt.NDArray[np.bool_]:
    """Which of E methods are on the front; equal ones are on it together, those with a NaN are not."""
    cost_E = np.asarray(cost_E, dtype=np.float64)
    loss_E = np.asarray(value_E, dtype=np.float64) * (-1 if higher_is_better else 1)
    known_E = ~(np.isnan(cost_E) | np.isnan(loss_E))
    return known_E & ~_beaten(cost_E[:, None], loss_E[:, None])[:, 0]


def front_probability(costs: Sequence[Estimate], values: Sequence[Estimate], higher_is_better: bool) -> Array:
    """For each method the probability of being on the front."""
    known = [index for index, value in enumerate(values) if value.half_width is not None]
    sign = -1 if higher_is_better else 1
    loss_ED = sign * _draws([values[index] for index in known], stream=0)
    beaten_ED = _beaten(_draws([costs[index] for index in known], stream=1), loss_ED)
    return _spread(1 - beaten_ED.mean(axis=1), known, len(values))


def best_probability(values: Sequence[Estimate], higher_is_better: bool) -> Array:
    """For each method the probability of being the best; methods that tie share it."""
    known = [index for index, value in enumerate(values) if value.half_width is not None]
    loss_ED = (-1 if higher_is_better else 1) * _draws([values[index] for index in known], stream=0)
    best_ED = loss_ED == loss_ED.min(axis=0, initial=np.inf)
    return _spread((best_ED / best_ED.sum(axis=0)).mean(axis=1) if known else np.empty(0), known, len(values))


def _beaten(cost_ED: Array, loss_ED: Array) -> npt.NDArray[np.bool_]:
    """In each draw, the methods that another one beats."""
    beaten_ED = np.empty(cost_ED.shape, dtype=bool)
    for index, (cost_D, loss_D) in enumerate(zip(cost_ED, loss_ED, strict=True)):
        no_worse_ED = (cost_ED <= cost_D) & (loss_ED <= loss_D)
        beaten_ED[index] = (no_worse_ED & ((cost_ED < cost_D) | (loss_ED < loss_D))).any(axis=0)
    return beaten_ED


def _draws(estimates: Sequence[Estimate], stream: int) -> Array:
    """True means, (E, NUM_DRAWS). The standard error follows from the half width: that is t(0.975, n - 1) of them."""
    means_ED = np.empty((len(estimates), NUM_DRAWS))
    for place, (mean_D, estimate) in enumerate(zip(means_ED, estimates, strict=True)):
        mean_D[:] = estimate.mean
        if estimate.half_width:
            freedom = estimate.num_values - 1
            error = estimate.half_width / stdtrit(freedom, 0.5 + CONFIDENCE / 2)
            mean_D += error * _student(freedom, stream, place)
    return means_ED


@functools.lru_cache(maxsize=256)
def _student(freedom: int, stream: int, place: int) -> Array:
    """Draws of Student's t, the same in every call: a report asks for those of its methods again for each cost."""
    drawn_D = np.random.default_rng([stream, place]).standard_t(freedom, NUM_DRAWS)
    drawn_D.flags.writeable = False
    return drawn_D


def _spread(probability_K: Array, known: Sequence[int], num_methods: int) -> Array:
    """The probabilities at their methods' places, NaN elsewhere."""
    probability_E = np.full(num_methods, np.nan)
    if len(known) > 1 or num_methods == 1:
        probability_E[known] = probability_K
    return probability_E
