"""Entries by their average rank over several tasks: the critical-difference diagram of Demšar (2006)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.across import entries_of_all, left_out
from benchmark.report.gather import Entry, Gathered, TaskResults
from benchmark.report.plots.drawing import (
    INK,
    QUIET,
    Array,
    Plot,
    known,
    marker_style,
    new_figure,
    nll_source,
    short,
)
from benchmark.report.quantities import quantity_of
from benchmark.statistics import average_ranks, critical_difference, friedman_p

LINE = 0.23
"""Inches from one label to the next."""

ABOVE = 0.95
"""Inches above the axis of ranks: title, critical difference, numbers."""


def ranks(gathered: Gathered, metric: str) -> Plot | None:
    """Average ranks in a metric of test images; entries without a run on some task are left out."""
    tasks = gathered.tasks
    source = _source(tasks, metric)
    of_all = entries_of_all(tasks, source)
    entries = [of_label[0] for of_label in of_all]
    if len(tasks) < 2 or len(entries) < 2:
        return None
    quantity = quantity_of(source)
    values_TE = np.array([[known(entry.estimate(source)).mean for entry in of_label] for of_label in of_all]).T
    rank_E = average_ranks(values_TE, quantity.better == "higher")
    distance = critical_difference(len(entries), len(tasks))
    best_first = np.argsort(rank_E, kind="stable")
    pooling = tasks[0].pooling
    figure = _drawn([entries[index] for index in best_first], rank_E[best_first], distance)
    figure.suptitle(f"{quantity.title}, {len(tasks)} tasks; {pooling}", x=0.01, ha="left", fontsize="medium")
    text = _caption(quantity.title, pooling, len(tasks), len(entries), distance, friedman_p(values_TE))
    text += "".join(f" {note}" for note in left_out(tasks, [entry.label for entry in entries]))
    return Plot(f"ranks_{metric}", f"Average ranks, {quantity.title}", text, figure, wide=figure.get_figwidth() > 7)


def _source(tasks: Sequence[TaskResults], metric: str) -> str:
    """One column for all tasks: NLL is calibrated where every task has it so."""
    sources = {nll_source(task) if metric == "nll" else f"test/{task.pooling}/{metric}" for task in tasks}
    return sources.pop() if len(sources) == 1 else f"test/{tasks[0].pooling}/{metric}"


def groups_within(ranks_E: Array, distance: float) -> list[tuple[int, int]]:
    """First and last index of the largest groups of sorted ranks that lie within the distance, those of one left out."""
    groups: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks_E):
        last = int(np.searchsorted(ranks_E, rank + distance + 1e-9, side="right")) - 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def _caption(title: str, pooling: str, num_tasks: int, num_entries: int, distance: float, p_value: float) -> str:
    text = (
        f"Entries by their rank in {title} on test images ({pooling}), by the mean over seeds, averaged over {num_tasks} "
        "tasks; 1 is the best. Entries joined by a thick bar differ by less than the critical difference, "
        f"{distance:.2f} ranks (Nemenyi's test at 5 %, Demšar 2006): these tasks do not tell them apart. Friedman's test that "
        f"all entries are alike: p = {p_value:.2g}. "
    )
    if distance >= num_entries - 1:
        text += f"{num_tasks} tasks are too few to tell any of {num_entries} entries apart, whatever their ranks. "
    return text + "Tasks are taken for independent: two networks on one data set count for less than two data sets."


def _drawn(entries: Sequence[Entry], rank_E: Array, distance: float) -> Figure:
    """Entries and their ranks are given from the best to the worst."""
    groups = groups_within(rank_E, distance)
    first_row = 0.34 + 0.12 * len(groups)
    below = first_row + LINE * -(-len(entries) // 2)
    side = 0.85 + 0.066 * max(len(short(entry)) for entry in entries)
    width, height = 2 * side + 3.8, ABOVE + below
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((side / width, 0, 1 - 2 * side / width, 1))
    axes.set(xlim=(1, len(entries)), ylim=(below, -ABOVE))  # y is in inches
    axes.axis("off")
    _draw_scale(axes, len(entries), distance)
    overhang = 0.04 / 3.8 * (len(entries) - 1)
    for line, (first, last) in enumerate(groups):
        ends = rank_E[first] - overhang, rank_E[last] + overhang
        y = 0.16 + 0.12 * line
        axes.plot(ends, (y, y), color=INK, linewidth=3, solid_capstyle="butt", zorder=3, label="group", clip_on=False)
    half = -(-len(entries) // 2)
    for index, (entry, rank) in enumerate(zip(entries, rank_E, strict=True)):
        on_left = index < half
        row = index if on_left else len(entries) - 1 - index
        _draw_entry(axes, entry, rank, first_row + LINE * row, 1 if on_left else len(entries), on_left)
    return figure


def _draw_scale(axes: Axes, num_entries: int, distance: float) -> None:
    line: dict[str, Any] = {"color": INK, "linewidth": 1, "clip_on": False}
    axes.plot([1, num_entries], [0, 0], **line)
    for rank in range(1, num_entries + 1):
        axes.plot([rank, rank], [0, -0.05], **line)
        if num_entries <= 16 or rank % 5 == 0 or rank == 1:
            axes.annotate(str(rank), (rank, -0.07), ha="center", va="bottom", fontsize=8, annotation_clip=False)
    end = min(1 + distance, num_entries)
    axes.plot([1, end], [-0.34, -0.34], marker="|", markersize=6, label="critical difference", **line)
    beyond = "" if end == 1 + distance else ", beyond the axis"
    axes.annotate(
        f"critical difference {distance:.2f}{beyond}",
        (1, -0.39),
        ha="left",
        va="bottom",
        fontsize=8,
        annotation_clip=False,
    )


def _draw_entry(axes: Axes, entry: Entry, rank: float, y: float, edge: float, on_left: bool) -> None:
    """A line from the rank down to the entry's row and out to its label."""
    axes.plot([rank, rank, edge], [0, y, y], color=QUIET, linewidth=0.8, zorder=1.5, clip_on=False)
    axes.plot(rank, 0, **marker_style(entry, 7), label=entry.label, zorder=4, clip_on=False)
    outwards = -1 if on_left else 1
    axes.annotate(
        f"{short(entry)}  {rank:.2f}" if on_left else f"{rank:.2f}  {short(entry)}",
        (edge, y), xytext=(14 * outwards, 0), textcoords="offset points", ha="right" if on_left else "left",
        va="center", fontsize=8, annotation_clip=False,
    )  # fmt: skip
