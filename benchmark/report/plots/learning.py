"""Learning curves: training loss and monitored accuracy after every epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from benchmark.report.gather import Entry, TaskResults
from benchmark.report.plots.drawing import MANY_PANELS_DOTS_PER_INCH, QUIET, Array, Plot, new_figure, short

MOST_LINES = 20
"""Seeds drawn one by one for each entry."""

MOST_EPOCHS = 400
"""Epochs drawn for each line: beyond, a panel has no room for more."""


@dataclass(frozen=True)
class Curves:
    """All runs of an entry, epochs of one stage after those of the stage before; NaN after a run's last epoch."""

    entry: Entry
    loss_ST: Array
    accuracy_ST: Array
    """In percent."""
    starts: list[int]
    """Epochs trained before each stage but the first."""
    monitored: set[str]


def learning_curves(task: TaskResults) -> Plot | None:
    curves = [read for entry in task.entries if (read := _read(entry, task.histories(entry))) is not None]
    if not curves:
        return None
    columns = min(4, len(curves))
    lines = -(-len(curves) // columns)
    figure = new_figure(max(1.0 + 1.9 * columns, 4.4), 0.4 + 2.75 * lines, MANY_PANELS_DOTS_PER_INCH)
    figure.suptitle(task.title, x=0.01, ha="left", fontsize="medium")
    grid = figure.subplots(2 * lines, columns, squeeze=False, sharex=True)
    losses, accuracies = grid[::2], grid[1::2]
    monitored = set.union(*(each.monitored for each in curves))
    for index, each in enumerate(curves):
        line, column = divmod(index, columns)
        upper, lower = losses[line, column], accuracies[line, column]
        _draw(upper, each.loss_ST, each)
        _draw(lower, each.accuracy_ST, each)
        upper.set_title(fill(short(each.entry), 22), fontsize=8.5)
        lower.set_xlabel("epoch", fontsize=8)
        if column == 0:
            upper.set_ylabel("training\nloss", fontsize=8)
            lower.set_ylabel(f"{' or '.join(sorted(monitored))}\naccuracy (%)", fontsize=8)
        for panel in (upper, lower):
            panel.tick_params(labelsize=7.5, labelleft=column == 0, labelbottom=panel is lower)
    _share(losses, [each.loss_ST for each in curves])
    _share(accuracies, [each.accuracy_ST for each in curves])
    grid[0, 0].set_xlim(0, max(each.loss_ST.shape[1] for each in curves) + 0.5)
    for unused in grid[-2:, len(curves) - columns * (lines - 1) :].flat:
        unused.remove()
    text = (
        f"Mean training loss of every epoch, and the accuracy of members trained so far, pooled, on up to 1,000 "
        f"{' or '.join(sorted(monitored))} images at its end. Thick lines are means over seeds, thin ones seeds. A method that "
        "trains in stages, such as one network after another, has them one after another; dotted lines part them."
    )
    if any(len(each.loss_ST) > MOST_LINES for each in curves):
        text += f" Of more than {MOST_LINES} seeds, {MOST_LINES} are drawn; means are over all."
    return Plot("learning_curves", "Learning curves", text, figure, wide=True)


def _read(entry: Entry, histories: Sequence[pd.DataFrame]) -> Curves | None:
    histories = [history for history in histories if len(history)]
    if not histories:
        return None
    longest = max(histories, key=len)
    stages = longest["stage"].to_numpy()
    starts = [int(index) for index in np.flatnonzero(stages[1:] != stages[:-1]) + 1]
    monitored = {str(name) for history in histories for name in history["monitored"].unique()}
    loss_ST, accuracy_ST = np.full((2, len(histories), len(longest)), np.nan)
    for run, history in enumerate(histories):
        loss_ST[run, : len(history)] = history["loss"]
        accuracy_ST[run, : len(history)] = 100 * history["accuracy"]
    return Curves(entry, loss_ST, accuracy_ST, starts, monitored)


def _draw(axes: Axes, values_ST: Array, curves: Curves) -> None:
    num_epochs = values_ST.shape[1]
    drawn = np.unique(np.linspace(0, num_epochs - 1, min(num_epochs, MOST_EPOCHS)).astype(int))
    seeds = [np.stack([drawn + 1, values_T[drawn]], axis=1) for values_T in values_ST[:MOST_LINES]]
    style = curves.entry.style
    if len(values_ST) > 1:
        axes.add_collection(LineCollection(seeds, colors=style.colour, linewidths=0.5, alpha=0.45, zorder=2))
    mean_T = np.nanmean(values_ST[:, drawn], axis=0)
    marker: dict[str, Any] = {"marker": style.marker, "markersize": 4} if num_epochs == 1 else {}
    axes.plot(drawn + 1, mean_T, color=style.colour, linewidth=1.5, zorder=3, label=curves.entry.label, **marker)
    for start in curves.starts:
        axes.axvline(start + 0.5, color=QUIET, linewidth=0.7, linestyle=":", zorder=1.5)


def _share(panels: np.ndarray, values: Sequence[Array]) -> None:
    low, high = min(np.nanmin(each) for each in values), max(np.nanmax(each) for each in values)
    margin = 0.06 * max(high - low, 0.01)
    for axes in panels.flat:
        axes.set_ylim(low - margin, high + margin)
