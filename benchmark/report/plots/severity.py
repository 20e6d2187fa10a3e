"""Accuracy and calibration as corruptions of the test images grow stronger."""

import numpy as np
from matplotlib.axes import Axes

from benchmark.report.gather import Entry, TaskResults
from benchmark.report.plots.drawing import (
    Plot,
    interval,
    legend_below,
    legend_height,
    marker_style,
    new_figure,
)
from benchmark.report.quantities import quantity_of

SEVERITIES = (0, 1, 2, 3, 4, 5)
"""Of Hendrycks & Dietterich (2019); 0 are the test images as they are."""

METRICS = ("accuracy", "ece")


def by_severity(task: TaskResults) -> Plot | None:
    shifted = [f"shifted/{severity}/{task.pooling}/{metric}" for severity in SEVERITIES[1:] for metric in METRICS]
    entries = [entry for entry in task.entries if any(entry.estimate(source) for source in shifted)]
    if not entries:
        return None
    width = 8.4
    figure = new_figure(width, 3.5 + legend_height(width, entries))
    figure.suptitle(f"{task.title}; {task.pooling}", x=0.01, ha="left", fontsize="medium")
    for axes, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
        quantity = quantity_of(f"test/{task.pooling}/{metric}")
        for place, entry in enumerate(entries):
            _draw(axes, entry, task.pooling, metric, 0.3 * ((place + 0.5) / len(entries) - 0.5))
        axes.set_xticks(SEVERITIES, ["clean", *map(str, SEVERITIES[1:])])
        axes.set_xlim(-0.35, 5.35)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -1), min(high, 101))
        axes.set_xlabel("severity of corruption")
        axes.set_ylabel(quantity.header())
    legend_below(figure, entries, with_lines=True)
    text = (
        f"Accuracy and ECE ({task.pooling}) on clean test images and on corrupted ones, mean over kinds of corruption. "
        "Markers are means over seeds, bars their 95 % intervals, set side by side so that none hides another. "
        "A line that falls later in accuracy and rises later in ECE stands more."
    )
    return Plot("by_severity", "Accuracy and calibration by severity of corruption", text, figure, wide=True)


def _draw(axes: Axes, entry: Entry, pooling: str, metric: str, shift: float) -> None:
    scale = quantity_of(f"test/{pooling}/{metric}").scale
    sources = [f"test/{pooling}/{metric}", *(f"shifted/{level}/{pooling}/{metric}" for level in SEVERITIES[1:])]
    found = [(level, e) for level, source in zip(SEVERITIES, sources, strict=True) if (e := entry.estimate(source))]
    x = np.array([level + shift for level, _ in found])
    y = np.array([scale * estimate.mean for _, estimate in found])
    line = {"linestyle": entry.style.line, "linewidth": 1.4}
    axes.plot(x, y, **marker_style(entry, 5.5) | line, label=entry.label, zorder=4)
    for centre, (_, estimate) in zip(zip(x, y, strict=True), found, strict=True):
        half_width = scale * (estimate.half_width or 0.0)
        interval(axes, centre, centre[1] - half_width, centre[1] + half_width, False, entry, 0.8)
