"""Paper against ours: published numbers as hollow markers beside the runs here."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmark.report.against_papers import Pair, pairs
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.plots.drawing import INK, Plot, axis_title, interval, limits, marker_style, new_figure, short
from benchmark.report.quantities import quantity_of

METRICS = ("accuracy", "nll", "ece")
"""One panel each; other published metrics stand in the table alone."""


def paper_and_ours(task: TaskResults) -> Plot | None:
    """A panel per metric, a row per entry; all publications of an entry in its row."""
    found = pairs(task)
    metrics = [metric for metric in METRICS if any(pair.published.metric == metric for pair in found)]
    shown = [pair for pair in found if pair.published.metric in metrics]
    if not shown:
        return None
    entries = list({pair.entry.label: pair.entry for pair in shown}.values())
    figure = new_figure(max(5.0, 1.6 + 2.6 * len(metrics)), 1.15 + 0.36 * len(entries))
    grid = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(grid, metrics, strict=True):
        _panel(axes, [pair for pair in shown if pair.published.metric == metric], entries)
    grid[0].set_yticks(range(len(entries)), [short(entry) for entry in entries])
    grid[0].set_ylim(len(entries) - 0.4, -0.6)
    figure.suptitle(task.title, x=0.01, ha="left", fontsize="medium")
    legend = [
        Line2D([], [], color=INK, marker="o", markersize=7, linestyle=""),
        Line2D([], [], color=INK, marker="o", markersize=6, markerfacecolor="none", linestyle=""),
    ]
    names = ["ours, mean with 95 % interval", "published"]
    figure.legend(legend, names, loc="outside lower center", ncols=2, frameon=False, handletextpad=0.3)
    text = (
        "Test metrics here (filled, mean over seeds with its 95 % interval) and as papers and their repositories report them "
        "for the same data set, network, method and members (hollow, one for each source), under the pooling that the source "
        "states. Recipes may differ; the table beside it says where each number stands."
    )
    return Plot("paper_against_ours", "Paper against ours", text, figure, wide=len(metrics) > 1)


def _panel(axes: Axes, shown: Sequence[Pair], entries: Sequence[Entry]) -> None:
    quantity = quantity_of(shown[0].source)
    values, ends = [], []
    for row, entry in enumerate(entries):
        of_entry = [pair for pair in shown if pair.entry is entry]
        ours = {pair.source: pair.ours for pair in of_entry}  # two where sources pool members differently
        for place, estimate in enumerate(ours.values()):
            height = row - 0.16 + 0.14 * place
            mean, half_width = estimate.mean * quantity.scale, (estimate.half_width or 0) * quantity.scale
            interval(axes, (mean, height), mean - half_width, mean + half_width, True, entry)
            axes.plot(mean, height, **marker_style(entry, 7.5), zorder=4, label=entry.label)
            values.append(np.array([mean]))
            ends.append(np.array([mean - half_width, mean + half_width]))
        published = np.array([pair.published.value * quantity.scale for pair in of_entry])
        if len(published):
            values.append(published)
            axes.plot(
                published, np.full(len(published), row + 0.2), entry.style.marker, markersize=6, markerfacecolor="none",
                markeredgecolor=entry.style.colour, markeredgewidth=1.1, zorder=3,
            )  # fmt: skip
    axes.set_xlim(*limits(values, ends, quantity))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(axis_title(shown[0].source))
