"""Entries as points in a plane of two columns: seeds as dots, means with their intervals, the Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from benchmark.report.gather import Entry, TaskResults
from benchmark.report.plots.drawing import QUIET, Array, interval, known, limits, marker_style, some_dots
from benchmark.report.quantities import Quantity, quantity_of
from benchmark.statistics import Estimate, estimate_mean, pareto_front


@dataclass(frozen=True)
class Point:
    """An entry's runs and their means, in the units that are shown."""

    entry: Entry
    x_S: Array
    y_S: Array
    x: Estimate
    y: Estimate

    @property
    def mean(self) -> tuple[float, float]:
        return self.x.mean, self.y.mean


def points_of(task: TaskResults, x_source: str, y_source: str, positive_x: bool) -> list[Point]:
    """Entries with runs that have both numbers; `positive_x` leaves out runs that a logarithmic axis can't show."""
    if not task.holds(x_source) or not task.holds(y_source):
        return []
    points = []
    for entry in task.entries:
        runs = entry.runs[[x_source, y_source]].dropna()
        runs = runs[runs[x_source] > 0] if positive_x else runs
        if len(runs):
            x_S = quantity_of(x_source).scale * runs[x_source].to_numpy(np.float64)
            y_S = quantity_of(y_source).scale * runs[y_source].to_numpy(np.float64)
            points.append(Point(entry, x_S, y_S, known(estimate_mean(x_S)), known(estimate_mean(y_S))))
    return points


def draw_points(axes: Axes, points: Sequence[Point], size: float = 1.0) -> None:
    """Small dots are seeds, large markers their means, bars their intervals."""
    for point in points:
        colour = point.entry.style.colour
        x_S, y_S = some_dots(point.x_S), some_dots(point.y_S)
        axes.plot(x_S, y_S, "o", color=colour, markersize=3.7 * size, alpha=0.55, markeredgewidth=0, zorder=2)
        for across, (start, end) in zip((True, False), bars_of(point), strict=True):
            axis = 0 if across else 1
            interval(axes, point.mean, start[axis], end[axis], across, point.entry, size)
        axes.plot(*point.mean, **marker_style(point.entry, 8 * size), label=point.entry.label, zorder=4)


def bars_of(point: Point) -> Array:
    """The ends (x, y) of the intervals, first the one along x, then the one along y: [2, 2, 2]."""
    (x, y), across, along = point.mean, point.x.half_width or 0.0, point.y.half_width or 0.0
    left = max(x - across, x / 1000) if x > 0 else x - across  # a logarithmic axis has no 0
    return np.array([[(left, y), (x + across, y)], [(x, y - along), (x, y + along)]])


def frame_y(axes: Axes, points: Sequence[Point], quantity: Quantity) -> None:
    axes.set_ylim(*limits([point.y_S for point in points], [bars_of(point)[1, :, 1] for point in points], quantity))


def frame_x(axes: Axes, points: Sequence[Point], quantity: Quantity) -> None:
    axes.set_xlim(*limits([point.x_S for point in points], [bars_of(point)[0, :, 0] for point in points], quantity))


def frame_log_x(axes: Axes, points: Sequence[Point]) -> None:
    axes.set_xscale("log")
    left, right = min(point.x_S.min() for point in points), max(point.x_S.max() for point in points)
    factor = max((right / left) ** 0.14, 1.25)
    axes.set_xlim(left / factor, right * factor)


def front_of(points: Sequence[Point], cost: Quantity, value: Quantity) -> list[Point]:
    """Points whose means no other point beats, in order from the cheapest to the best."""
    sign = -1 if cost.better == "higher" else 1
    costs_E = np.array([sign * point.x.mean for point in points])
    values_E = np.array([point.y.mean for point in points])
    on_front_E = pareto_front(costs_E, values_E, value.better == "higher")
    chosen = [point for point, on_front in zip(points, on_front_E, strict=True) if on_front]
    return sorted(chosen, key=lambda point: sign * point.x.mean)


def draw_front(axes: Axes, points: Sequence[Point], cost: Quantity, value: Quantity) -> None:
    """A step line through the front, up to the frame: the best mean for at most so much. Limits must be final."""
    if len(points) < 2:
        return
    front = front_of(points, cost, value)
    left, right = axes.get_xlim()
    x = [*(point.x.mean for point in front), left if cost.better == "higher" else right]
    y = [*(point.y.mean for point in front), front[-1].y.mean]
    axes.plot(x, y, drawstyle="steps-post", color=QUIET, linewidth=1.2, zorder=1.8, label="Pareto front")
