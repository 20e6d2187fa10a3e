"""The report's plots. A plot is one function (a task's results in, a Plot or None out) and one line in PLOTS.

drawing.py     the look, texts, legends, files       points.py  entries in a plane of two columns, the Pareto front
costs.py       against training and prediction costs  members.py, severity.py, seeds.py, learning.py, reliability.py, …
"""

from collections.abc import Callable
from functools import partial

from benchmark.report.gather import Gathered, TaskResults
from benchmark.report.plots.costs import accuracy_against, against_costs
from benchmark.report.plots.drawing import Plot, look, new_figure, png_and_pdf
from benchmark.report.plots.equivalents import equivalent_bars
from benchmark.report.plots.learning import learning_curves
from benchmark.report.plots.members import diversity_against_accuracy, members_against_ensemble
from benchmark.report.plots.published import paper_and_ours
from benchmark.report.plots.ranks import ranks
from benchmark.report.plots.reliability import reliability
from benchmark.report.plots.seeds import every_seed
from benchmark.report.plots.severity import by_severity

__all__ = ["PLOTS", "PLOTS_ACROSS", "Plot", "make_plots", "make_plots_across", "new_figure"]

PLOTS: list[Callable[[TaskResults], Plot | None]] = [
    partial(accuracy_against, source="costs/training_flops", name="accuracy_against_training_flops"),
    partial(accuracy_against, source="measured/latency_ms_batch1", name="accuracy_against_latency"),
    partial(against_costs, metric="accuracy"),
    partial(against_costs, metric="nll"),
    every_seed,
    equivalent_bars,
    paper_and_ours,
    members_against_ensemble,
    diversity_against_accuracy,
    by_severity,
    reliability,
    learning_curves,
]

PLOTS_ACROSS: list[Callable[[Gathered], Plot | None]] = [
    partial(ranks, metric="accuracy"),
    partial(ranks, metric="nll"),
]
"""Plots over all tasks of a study."""


def make_plots(task: TaskResults) -> list[tuple[Plot, bytes, bytes]]:
    """Those of PLOTS that the task has data for, as PNG and PDF."""
    with look():
        plots = [plot for plot in (make(task) for make in PLOTS) if plot is not None]
        return [(plot, *png_and_pdf(plot.figure)) for plot in plots]


def make_plots_across(gathered: Gathered) -> list[tuple[Plot, bytes, bytes]]:
    """Those of PLOTS_ACROSS that the study's tasks have data for, as PNG and PDF."""
    with look():
        plots = [plot for plot in (make(gathered) for make in PLOTS_ACROSS) if plot is not None]
        return [(plot, *png_and_pdf(plot.figure)) for plot in plots]
