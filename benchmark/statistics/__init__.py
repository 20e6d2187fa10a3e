"""What several seeds say together. Numbers in, numbers out: numpy and scipy only.

Assumptions: the runs of a method differ by their seeds only and are independent of each other and of other methods'
runs; metrics scatter normally over seeds. Two methods may scatter by different amounts. Test images are drawn
independently, and are the same for the methods of a task.

One run tells nothing about scatter: it gives no interval and no p-value. Rates hold for any number of runs from two on,
any mix of scatter over seeds and over images, and any level (comparison.py says why), so p-values may be corrected by
Holm's method. The price: two or three runs a side decide large differences only.
"""

from benchmark.statistics.across import (
    Interval,
    average_ranks,
    critical_difference,
    friedman_p,
    interquartile_mean,
    probability_of_improvement,
)
from benchmark.statistics.bootstrap import (
    Resampled,
    Resamples,
    compare_ece,
    compare_examples,
    compare_resampled,
)
from benchmark.statistics.comparison import Comparison, compare_runs, holm
from benchmark.statistics.equivalent import Equivalent, deep_ensemble_equivalent
from benchmark.statistics.estimate import CONFIDENCE, Estimate, estimate_mean
from benchmark.statistics.pareto import best_probability, front_probability, pareto_front

__all__ = [
    "CONFIDENCE",
    "Comparison",
    "Equivalent",
    "Estimate",
    "Interval",
    "Resampled",
    "Resamples",
    "average_ranks",
    "best_probability",
    "compare_ece",
    "compare_examples",
    "compare_resampled",
    "compare_runs",
    "critical_difference",
    "deep_ensemble_equivalent",
    "estimate_mean",
    "friedman_p",
    "front_probability",
    "holm",
    "interquartile_mean",
    "pareto_front",
    "probability_of_improvement",
]
