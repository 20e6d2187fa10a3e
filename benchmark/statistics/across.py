"""Methods compared over several tasks."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, expit, logit, stdtrit
from scipy.stats import rankdata, studentized_range

from benchmark.statistics.comparison import ALPHA, Array

NUM_RESAMPLES = 2000
NUM_DRAWN = 200_000
"""Runs drawn in all: of more than 100 there are fewer resamples, at least 400, as they tell more."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval, None where a task with one run gives none."""

    value: float
    low: float | None
    high: float | None


def interquartile_mean(values_by_task: Sequence[npt.ArrayLike]) -> Interval:
    """The mean of the middle half of all runs of all tasks (Agarwal et al., Deep RL at the Edge of the Statistical
    Precipice, 2021): of n values the ⌊n/4⌋ lowest and highest are left out.

    Its standard error is that of a stratified bootstrap: the S runs of each task are drawn anew, their deviations from
    the task's mean times √(S / (S - 1)), as those of few runs are too small. The interval takes Student's t with the
    runs of the task that has fewest, where Agarwal et al. take percentiles, which are too narrow with few runs.
    """
    tasks = [np.asarray(values, dtype=np.float64) for values in values_by_task]
    pooled = np.concatenate(tasks)
    cut = len(pooled) // 4
    value = float(np.sort(pooled)[cut : len(pooled) - cut].mean())
    fewest = min(len(values_S) for values_S in tasks)
    if fewest < 2:
        return Interval(value, None, None)
    random = np.random.default_rng(0)
    num_resamples = min(NUM_RESAMPLES, max(400, NUM_DRAWN // len(pooled)))
    drawn = np.sort(np.concatenate([_deviating(values_S, num_resamples, random) for values_S in tasks], axis=1))
    half_width = _quantile(fewest) * drawn[:, cut : len(pooled) - cut].mean(axis=1).std(ddof=1)
    return Interval(value, value - half_width, value + half_width)


def probability_of_improvement(
    first_by_task: Sequence[npt.ArrayLike], second_by_task: Sequence[npt.ArrayLike], higher_is_better: bool = True
) -> Interval:
    """The probability that a run of the first method beats one of the second on a task drawn at random.

    The mean over tasks of the share of pairs of runs that the first wins, a tie being half a win (Agarwal et al. 2021;
    Mann & Whitney 1947). Its variance is that of endless draws of a stratified bootstrap of both methods' runs, in
    closed form, times S / (S - 1). The interval is symmetric in the logarithm of the odds and takes Student's t, S and
    t being of the method and task with fewest runs: percentiles, and intervals symmetric in the probability, miss a
    probability near 0 or 1 too often.

    Where every task is won or lost entirely, draws do not vary: of n tasks' runs that won all their pairs, each task
    counted by the method with fewer, the share may be as low as would win n independent pairs once in 40 times,
    0.025^(1/n); likewise of those that lost.
    """
    sign = 1 if higher_is_better else -1
    won = [
        (np.sign(np.subtract.outer(sign * np.asarray(first, np.float64), sign * np.asarray(second, np.float64))) + 1)
        / 2
        for first, second in zip(first_by_task, second_by_task, strict=True)
    ]
    share_T = np.array([won_FS.mean() for won_FS in won])
    value, fewest = float(share_T.mean()), min(min(won_FS.shape) for won_FS in won)
    if fewest < 2:
        return Interval(value, None, None)
    variance = sum(_bootstrap_variance(won_FS) for won_FS in won) / len(won) ** 2 * fewest / (fewest - 1)
    if variance == 0:
        num_T = np.array([min(won_FS.shape) for won_FS in won])
        lower, upper = _likely(num_T[share_T > 0].sum()), _likely(num_T[share_T < 1].sum())
        return Interval(value, value * lower, 1 - (1 - value) * upper)
    half_width = _quantile(fewest) * math.sqrt(variance) / (value * (1 - value))
    return Interval(value, float(expit(logit(value) - half_width)), float(expit(logit(value) + half_width)))


def _bootstrap_variance(won_FS: Array) -> float:
    """The variance of the mean over pairs, F first and S second runs being drawn with replacement (of a U-statistic:
    Hoeffding 1948)."""
    (num_first, num_second), of_pair = won_FS.shape, won_FS.var()
    of_first, of_second = won_FS.mean(axis=1).var(), won_FS.mean(axis=0).var()
    return float(((num_second - 1) * of_first + (num_first - 1) * of_second + of_pair) / won_FS.size)


def _likely(num_pairs: int) -> float:
    """The lowest probability at which so many independent pairs are all won at least once in 40 times."""
    return float((ALPHA / 2) ** (1 / num_pairs)) if num_pairs else 1.0


def _deviating(values_S: Array, num_resamples: int, random: np.random.Generator) -> Array:
    mean, inflation = values_S.mean(), math.sqrt(len(values_S) / (len(values_S) - 1))
    return mean + inflation * (random.choice(values_S, (num_resamples, len(values_S))) - mean)


def _quantile(num_runs: int) -> float:
    return float(stdtrit(num_runs - 1, 1 - ALPHA / 2))


def average_ranks(values_TE: npt.ArrayLike, higher_is_better: bool) -> Array:
    """The mean over T tasks of each method's rank, 1 for the best; methods that tie share the mean of their ranks."""
    return np.asarray(_ranks(values_TE, higher_is_better).mean(axis=0))


def friedman_p(values_TE: npt.ArrayLike) -> float:
    """Friedman's test that E methods rank alike over T tasks, corrected for ties (Demšar 2006, section 3.2.2).

    By χ² with E - 1 degrees of freedom, close from about 10 tasks and 5 methods on, conservative with fewer.
    """
    rank_TE = _ranks(values_TE, higher_is_better=False)
    num_tasks, num_methods = rank_TE.shape
    # Σ over methods of squared deviations of rank sums, over the variance of ranks within tasks.
    between = ((rank_TE.sum(axis=0) - num_tasks * (num_methods + 1) / 2) ** 2).sum()
    within = ((rank_TE - (num_methods + 1) / 2) ** 2).sum()
    return float(chdtrc(num_methods - 1, (num_methods - 1) * between / within)) if within else 1.0


def critical_difference(num_methods: int, num_tasks: int) -> float:
    """The difference of average ranks from which on two methods differ at 5 % (Nemenyi's test; Demšar 2006, section 3.2.2).

    CD = q √(k (k + 1) / 6N) for k methods and N tasks, q being the 95 % quantile of the studentised range, over √2.
    """
    return nemenyi_quantile(num_methods) * math.sqrt(num_methods * (num_methods + 1) / (6 * num_tasks))


@functools.cache
def nemenyi_quantile(num_methods: int) -> float:
    return float(studentized_range.ppf(1 - ALPHA, num_methods, np.inf)) / math.sqrt(2)


def _ranks(values_TE: npt.ArrayLike, higher_is_better: bool) -> Array:
    values_TE = np.asarray(values_TE, dtype=np.float64)
    return np.asarray(rankdata(-values_TE if higher_is_better else values_TE, axis=1))
