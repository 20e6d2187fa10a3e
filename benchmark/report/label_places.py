"""Puts a label beside every point of a plot so that labels cover neither one another nor a marker."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

Across = Literal["left", "center", "right"]
Along = Literal["bottom", "center", "top"]

DISTANCES = (7, 13, 20, 29, 40, 54)
"""In points, tried in this order; from the third on a thin line leads to the point."""

DIRECTIONS = ((1, 0), (-1, 0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7), (0, 1), (0, -1))
MARKER_RADIUS = 5.5
DOT_RADIUS = 2.5
BAR_RADIUS = 1.5


def place_labels(
    axes: Axes,
    points: list[tuple[float, float]],
    labels: list[str],
    dots: npt.NDArray[np.float64],
    bars: npt.NDArray[np.float64],
    ink: str,
) -> None:
    """Greedy, in order of the points: of all places the one that covers least, the nearest of equals.

    `points` and the smaller `dots` (x, y) and the `bars` between (x, y) and (x, y), to be kept free too, are in data
    coordinates; axis limits must be final.
    """
    figure = axes.figure
    figure.canvas.draw()  # places the axes
    pixels_per_point = figure.dpi / 72
    to_pixels = axes.transData.transform
    centres = to_pixels(np.asarray(points, dtype=np.float64))
    taken = [_box_between(centre, centre, MARKER_RADIUS * pixels_per_point) for centre in centres]
    taken += [_box_between(dot, dot, DOT_RADIUS * pixels_per_point) for dot in to_pixels(dots)]
    taken += [
        _box_between(start, end, BAR_RADIUS * pixels_per_point)
        for start, end in to_pixels(bars.reshape(-1, 2)).reshape(-1, 2, 2)
    ]
    frame = axes.get_window_extent()
    for (x, y), point, label in zip(centres, points, labels, strict=True):
        text = axes.annotate(
            label, point, xytext=(0, 0), textcoords="offset points", fontsize=8, color=ink, zorder=6,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
        size = text.get_window_extent()
        best: tuple[float, float, float, Across, Along, Bbox] | None = None
        for rank, distance in enumerate(DISTANCES):
            for right, up in DIRECTIONS:
                box, across, along = _box(x, y, right, up, distance * pixels_per_point, size.width, size.height)
                cost = sum(_shared(box, other) for other in taken) + 5 * (box.width * box.height - _shared(box, frame))
                cost += 0.02 * rank * box.width * box.height
                if best is None or cost < best[0] - 1e-6:
                    best = (cost, right * distance, up * distance, across, along, box)
        assert best is not None
        _, shift_x, shift_y, across, along, box = best
        text.set_position((shift_x, shift_y))
        text.set_horizontalalignment(across)
        text.set_verticalalignment(along)
        if np.hypot(shift_x, shift_y) > DISTANCES[1]:
            axes.annotate(
                "", point, xytext=(shift_x, shift_y), textcoords="offset points", zorder=1.5,
                arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
            )  # fmt: skip
        taken.append(box)


def _box(
    x: float, y: float, right: float, up: float, distance: float, width: float, height: float
) -> tuple[Bbox, Across, Along]:
    """The text's box when it hangs at (x, y) + distance · (right, up), and the alignments that put it there."""
    across: Across = "left" if right > 0 else "right" if right < 0 else "center"
    along: Along = "bottom" if up > 0 else "top" if up < 0 else "center"
    left = x + right * distance - {"left": 0, "right": width, "center": width / 2}[across]
    bottom = y + up * distance - {"bottom": 0, "top": height, "center": height / 2}[along]
    return Bbox.from_bounds(left, bottom, width, height), across, along


def _box_between(start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], radius: float) -> Bbox:
    """Everything not further than `radius` from a horizontal or vertical line."""
    (left, bottom), (right, top) = np.minimum(start, end) - radius, np.maximum(start, end) + radius
    return Bbox.from_extents(left, bottom, right, top)


def _shared(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)
