"""Puts a label beside every point of a plot so that labels cover neither one another nor a marker."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from benchmark.report.plots.drawing import settle

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
    assert isinstance(figure, Figure)
    settle(figure)
    pixels_per_point = figure.dpi / 72
    to_pixels = axes.transData.transform
    centres = to_pixels(np.asarray(points, dtype=np.float64))
    starts, ends = to_pixels(bars.reshape(-1, 2)).reshape(-1, 2, 2).swapaxes(0, 1)
    drawn = to_pixels(dots)
    taken = np.concatenate(
        [
            _boxes_between(centres, centres, MARKER_RADIUS * pixels_per_point),
            _boxes_between(drawn, drawn, DOT_RADIUS * pixels_per_point),
            _boxes_between(starts, ends, BAR_RADIUS * pixels_per_point),
        ]
    )
    frame = np.array([axes.get_window_extent().extents])
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
                cost = _shared(box, taken) + 5 * (box.width * box.height - _shared(box, frame))
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
        taken = np.concatenate([taken, [box.extents]])


def _box(
    x: float, y: float, right: float, up: float, distance: float, width: float, height: float
) -> tuple[Bbox, Across, Along]:
    """The text's box when it hangs at (x, y) + distance · (right, up), and the alignments that put it there."""
    across: Across = "left" if right > 0 else "right" if right < 0 else "center"
    along: Along = "bottom" if up > 0 else "top" if up < 0 else "center"
    left = x + right * distance - {"left": 0, "right": width, "center": width / 2}[across]
    bottom = y + up * distance - {"bottom": 0, "top": height, "center": height / 2}[along]
    return Bbox.from_bounds(left, bottom, width, height), across, along


def _boxes_between(
    starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], radius: float
) -> npt.NDArray[np.float64]:
    """Left, bottom, right, top of everything not further than `radius` from horizontal or vertical lines."""
    return np.concatenate([np.minimum(starts, ends) - radius, np.maximum(starts, ends) + radius], axis=1)


def _shared(box: Bbox, others: npt.NDArray[np.float64]) -> float:
    """The area that the box shares with the others, those of overlaps among them counted again."""
    width = np.minimum(box.x1, others[:, 2]) - np.maximum(box.x0, others[:, 0])
    height = np.minimum(box.y1, others[:, 3]) - np.maximum(box.y0, others[:, 1])
    return float((np.maximum(width, 0) * np.maximum(height, 0)).sum())
