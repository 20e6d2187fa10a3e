"""Every seed as a dot: what means and intervals rest on."""

import numpy as np
from matplotlib.axes import Axes
from numpy.random import default_rng

from benchmark.report.gather import Entry, TaskResults
from benchmark.report.plots.drawing import (
    Plot,
    dots_note,
    interval,
    known,
    limits,
    marker_style,
    new_figure,
    nll_source,
    short,
    some_dots,
)
from benchmark.report.quantities import quantity_of
from benchmark.statistics import estimate_mean

FEW = 12
"""Seeds that stand in one row; more are scattered around it."""


def every_seed(task: TaskResults) -> Plot | None:
    """Accuracy and NLL of test images, a row per entry."""
    sources = [source for source in (f"test/{task.pooling}/accuracy", nll_source(task)) if task.holds(source)]
    entries = [entry for entry in task.entries if any(entry.estimate(source) for source in sources)]
    if not entries:
        return None
    figure = new_figure(1.6 + 3.4 * len(sources), 0.95 + 0.27 * len(entries))
    figure.suptitle(f"{task.title}; {task.pooling}", x=0.01, ha="left", fontsize="medium")
    grid = figure.subplots(1, len(sources), squeeze=False, sharey=True)[0]
    for axes, source in zip(grid, sources, strict=True):
        for row, entry in enumerate(entries):
            _draw(axes, entry, source, row)
        axes.set_xlabel(quantity_of(source).header())
        axes.set_xlim(*_limits(entries, source))
        axes.grid(visible=False, axis="y")
    grid[0].set_yticks(range(len(entries)), [short(entry) for entry in entries])
    grid[0].set_ylim(len(entries) - 0.4, -0.6)
    text = (
        f"Accuracy and NLL on test images ({task.pooling}): every seed a dot, the mean a marker with its 95 % interval; a bar "
        "that leaves the frame goes on beyond it. One dot has no interval. Dots far from the others are worth a look at "
        "their runs."
    )
    text += dots_note(max(known(entry.estimate(source)).num_values for entry in entries for source in sources))
    return Plot("every_seed", "Every seed", text, figure, wide=True)


def _draw(axes: Axes, entry: Entry, source: str, row: int) -> None:
    if source not in entry.runs:
        return
    values_S = quantity_of(source).scale * entry.values(source)
    estimate = estimate_mean(values_S)
    if estimate is None:
        return
    dots_S = some_dots(values_S)
    scatter_S = default_rng(0).uniform(-0.3, 0.3, len(dots_S)) if len(dots_S) > FEW else np.zeros(len(dots_S))
    axes.plot(
        dots_S, row + scatter_S, "o", color=entry.style.colour, markersize=3.7, alpha=0.55, markeredgewidth=0, zorder=2
    )
    if estimate.half_width is not None:
        ends = estimate.mean - estimate.half_width, estimate.mean + estimate.half_width
        interval(axes, (estimate.mean, row), *ends, True, entry)
    axes.plot(estimate.mean, row, **marker_style(entry, 7), label=entry.label, zorder=4)


def _limits(entries: list[Entry], source: str) -> tuple[float, float]:
    quantity = quantity_of(source)
    values = [quantity.scale * entry.values(source) for entry in entries]
    estimates = [known(estimate) for values_S in values if (estimate := estimate_mean(values_S)) is not None]
    ends = [np.array([e.mean - (e.half_width or 0), e.mean + (e.half_width or 0)]) for e in estimates]
    return limits(values, ends, quantity)
