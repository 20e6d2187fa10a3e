"""Accuracy and NLL against what they cost."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmark.report.gather import TaskResults
from benchmark.report.plots.drawing import (
    INK,
    MANY_PANELS_DOTS_PER_INCH,
    QUIET,
    Plot,
    axis_title,
    dots_note,
    legend_below,
    legend_height,
    log_ticks,
    new_figure,
    nll_source,
    short,
    some_dots,
)
from benchmark.report.plots.label_places import place_labels
from benchmark.report.plots.points import (
    Point,
    bars_of,
    draw_front,
    draw_points,
    frame_log_x,
    frame_y,
    points_of,
)
from benchmark.report.quantities import quantity_of

COSTS = (
    *("costs/training_flops", "measured/train_seconds", "measured/energy_joules", "measured/peak_bytes"),
    *("costs/parameters", "costs/forward_flops", "measured/latency_ms_batch1", "measured/throughput_batch256"),
)
"""What training costs, then what predicting costs."""

FRONT = "The grey step line is the Pareto front of the means: entries on it are beaten by no other in both."


def accuracy_against(task: TaskResults, source: str, name: str) -> Plot | None:
    """Test accuracy over one cost, each entry with its label."""
    accuracy = f"test/{task.pooling}/accuracy"
    points = points_of(task, source, accuracy, positive_x=True)
    if not points:
        return None
    figure = new_figure(6.4, 4.4 + 0.06 * max(0, len(points) - 14))
    axes = figure.add_subplot()
    _draw(axes, points, source, accuracy, size=1.0)
    frame_y(axes, points, quantity_of(accuracy))
    axes.set_xlabel(axis_title(source))
    axes.set_ylabel(axis_title(accuracy, f"test accuracy, {task.pooling}"))
    axes.set_title(task.title, loc="left")
    log_ticks(axes)
    dots = np.concatenate([np.stack([some_dots(point.x_S), some_dots(point.y_S)], axis=1) for point in points])
    bars = np.concatenate([bars_of(point) for point in points])
    place_labels(axes, [point.mean for point in points], [short(point.entry) for point in points], dots, bars, INK)
    cost = quantity_of(source)
    text = (
        f"Test accuracy ({task.pooling}) against {cost.title}, logarithmic. Small dots are seeds, large markers their means "
        f"with 95 % intervals; a bar that leaves the frame goes on beyond it. Up and to the left is better. {FRONT}"
    )
    return Plot(name, f"Accuracy against {cost.title}", text + _dots_note(points), figure)


def against_costs(task: TaskResults, metric: str) -> Plot | None:
    """A metric of test images over every cost that is held, in panels with one axis for the metric."""
    source = nll_source(task) if metric == "nll" else f"test/{task.pooling}/{metric}"
    panels = [(cost, points) for cost in COSTS if (points := points_of(task, cost, source, positive_x=True))]
    if not panels:
        return None
    shown = {point.entry.label for _, points in panels for point in points}
    entries = [entry for entry in task.entries if entry.label in shown]
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    width = max(0.7 + 2.1 * columns, 4.4)
    figure = new_figure(width, 0.35 + 2.15 * lines + legend_height(width, entries, 1), MANY_PANELS_DOTS_PER_INCH)
    figure.suptitle(f"{task.title}; {task.pooling}", x=0.01, ha="left", fontsize="medium")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for index, (axes, (cost, points)) in enumerate(zip(grid.flat, panels, strict=False)):
        _draw(axes, points, cost, source, size=0.75)
        axes.set_xlabel(quantity_of(cost).header(), fontsize=8)
        axes.tick_params(labelsize=7.5)
        log_ticks(axes, most=4)
        if index % columns == 0:
            axes.set_ylabel(quantity_of(source).header(), fontsize=8)
    frame_y(grid[0, 0], [point for _, points in panels for point in points], quantity_of(source))
    for unused in grid.flat[len(panels) :]:
        unused.remove()
    front = Line2D([], [], color=QUIET, linewidth=1.2, label="Pareto front")
    legend_below(figure, entries, further=[front])
    value = quantity_of(source)
    text = (
        f"{_sentence(value.title)} on test images ({task.pooling}) against every cost, logarithmic; arrows say which way "
        f"is better. Dots are seeds, markers their means with 95 % intervals; a bar that leaves the frame goes on beyond it. "
        f"{FRONT}"
    )
    name = f"{metric}_against_costs"
    return Plot(name, f"{_sentence(value.title)} against costs", text + _dots_note(panels[0][1]), figure, wide=True)


def _draw(axes: Axes, points: list[Point], cost: str, value: str, size: float) -> None:
    draw_points(axes, points, size)
    frame_log_x(axes, points)
    draw_front(axes, points, quantity_of(cost), quantity_of(value))


def _dots_note(points: list[Point]) -> str:
    return dots_note(max(len(point.x_S) for point in points))


def _sentence(title: str) -> str:
    return title[:1].upper() + title[1:]
