"""Whole tables of simulated studies whose truth is known: how often they call equal methods different, and miss the truth.

The studies are as in life: images are easy or hard, for one method more than for another, runs differ by their seeds, and
all runs of all methods share the images and their labels.
"""

import itertools

import numpy as np
import pytest

from benchmark.metrics.calibration import ece
from benchmark.metrics.typing import Array
from benchmark.statistics import (
    Comparison,
    Estimate,
    Resamples,
    best_probability,
    compare_ece,
    compare_examples,
    compare_resampled,
    estimate_mean,
    front_probability,
    holm,
    pareto_front,
)

NUM_IMAGES = 200
RESAMPLES = Resamples(NUM_IMAGES, 150)
MIXES = {"seeds": (0.6, 0.0, 0.0), "images": (0.0, 1.2, 0.0), "all": (0.4, 0.7, 1.0)}
"""Standard deviations of a run, of an image for a method, and of a run on an image, in logits of a right prediction."""

Run = dict[str, Array]
"""Runs of a method, (S, N): confidence, and the losses accuracy and nll of each image."""


def bound(rate: float, num_studies: int) -> float:
    """What a rate is seen to exceed once in 1,000 times."""
    return rate + 3.1 * np.sqrt(rate * (1 - rate) / num_studies)


def simulated(rng: np.random.Generator, mix: str, num_runs: int, advantages: list[float]) -> list[Run]:
    """A method per advantage, all of which predict two classes of the same images."""
    of_run, of_image, of_both = MIXES[mix]
    hardness_N, drawn_N = 1.5 * rng.normal(size=NUM_IMAGES), rng.random(NUM_IMAGES)
    methods = []
    for advantage in advantages:
        z_SN = 1.2 + advantage + hardness_N + of_image * rng.normal(size=NUM_IMAGES)
        z_SN = z_SN + of_run * rng.normal(size=(num_runs, 1)) + of_both * rng.normal(size=(num_runs, NUM_IMAGES))
        p_SN = 1 / (1 + np.exp(-z_SN))  # of the first class, which the label is where less was drawn
        p_label_SN = np.where(drawn_N < p_SN, p_SN, 1 - p_SN)
        methods.append(
            {
                "confidence": np.maximum(p_SN, 1 - p_SN),
                "accuracy": (p_label_SN > 0.5).astype(float),
                "nll": -np.log(p_label_SN),
            }
        )
    return methods


def compared(metric: str, first: Run, second: Run) -> Comparison:
    if metric == "ece":
        return compare_ece(*((run["confidence"], run["accuracy"]) for run in (first, second)), RESAMPLES)
    return compare_examples(first[metric], second[metric], RESAMPLES)


def true_difference(metric: str, mix: str, advantage: float) -> float:
    """The mean over single runs of both, by far more studies than are compared."""
    rng, differences = np.random.default_rng(1), []
    for _ in range(4000):
        runs = simulated(rng, mix, 1, [advantage, 0.0])
        values = [
            ece(run["confidence"][0], run["accuracy"][0]) if metric == "ece" else run[metric].mean() for run in runs
        ]
        differences.append(values[0] - values[1])
    return float(np.mean(differences))


@pytest.mark.parametrize("num_runs", [2, 5])
@pytest.mark.parametrize("mix", MIXES)
def test_a_table_of_equal_methods_calls_none_different_but_once_in_twenty(mix: str, num_runs: int) -> None:
    """Six methods, fifteen comparisons that share methods and images, p-values by Holm."""
    rng, num_studies = np.random.default_rng(2), 200
    tables, called = {"accuracy": 0, "nll": 0, "ece": 0}, dict.fromkeys(("accuracy", "nll", "ece"), 0.0)
    for _ in range(num_studies):
        methods = simulated(rng, mix, num_runs, [0.0] * 6)
        for metric in tables:
            resampled = [
                RESAMPLES.eces(run["confidence"], run["accuracy"]) if metric == "ece" else RESAMPLES.means(run[metric])
                for run in methods
            ]
            p_values = [compare_resampled(*pair).p_value for pair in itertools.combinations(resampled, 2)]
            tables[metric] += min(holm(p_values)) < 0.05
            called[metric] += np.mean(np.array(p_values) < 0.05)
    for metric in tables:
        assert tables[metric] / num_studies <= bound(0.05, num_studies), metric
        assert called[metric] / num_studies <= bound(0.05, num_studies), metric


@pytest.mark.parametrize("metric", ["accuracy", "nll", "ece"])
@pytest.mark.parametrize("mix", MIXES)
def test_intervals_cover_a_difference_and_find_it_with_enough_runs(metric: str, mix: str) -> None:
    truth, num_studies = true_difference(metric, mix, 0.8), 250
    for num_runs in (2, 3, 10):
        rng = np.random.default_rng(num_runs)
        found = [compared(metric, *simulated(rng, mix, num_runs, [0.8, 0.0])) for _ in range(num_studies)]
        missed = np.mean([not one.low <= truth <= one.high for one in found])
        assert missed <= bound(0.05, num_studies), num_runs
        assert np.mean([one.difference for one in found]) == pytest.approx(truth, abs=0.02)
    if metric == "nll" and mix == "all":
        assert np.mean([one.p_value < 0.05 for one in found]) > 0.3


@pytest.mark.parametrize("num_runs", [2, 3, 10])
def test_equal_methods_are_seldom_surely_the_best(num_runs: int) -> None:
    rng, num_studies = np.random.default_rng(3), 300
    sure = [
        best_probability([estimate_mean(rng.normal(size=num_runs)) for _ in range(4)], True).max() > 0.95
        for _ in range(num_studies)
    ]
    assert np.mean(sure) <= bound(0.05, num_studies)


@pytest.mark.parametrize("num_runs", [2, 3, 10])
def test_what_is_best_or_on_the_front_by_80_percent_is_so_as_often(num_runs: int) -> None:
    """Of methods that differ by more than their runs scatter, as no prior is assumed."""
    rng = np.random.default_rng(4)
    costs, claimed, holds = [Estimate(cost, None, 1) for cost in range(1, 6)], [], []
    for _ in range(300):
        truth_E = 2 * rng.normal(size=5) + 0.5 * np.arange(5)
        values = [estimate_mean(truth + rng.normal(size=num_runs)) for truth in truth_E]
        claimed += [best_probability(values, True), front_probability(costs, values, True)]
        holds += [truth_E == truth_E.max(), pareto_front(range(1, 6), truth_E, True)]
    for chance, true in ((np.ravel(claimed[i::2]), np.ravel(holds[i::2])) for i in (0, 1)):
        among = (chance > 0.7) & (chance < 0.95)
        assert among.sum() > 50
        assert true[among].mean() >= chance[among].mean() - 3.1 * np.sqrt(0.25 / among.sum())
        assert true[chance < 0.3].mean() <= 0.2
