"""Members: how they differ, how good they are alone, and what pooling them adds."""

import numpy as np
from matplotlib.lines import Line2D

from benchmark.metrics.pooling import POOLINGS
from benchmark.report.gather import TaskResults
from benchmark.report.plots.drawing import INK, Plot, axis_title, dots_note, known, new_figure, short, some_dots
from benchmark.report.plots.label_places import place_labels
from benchmark.report.plots.points import bars_of, draw_points, frame_x, frame_y, points_of
from benchmark.report.quantities import quantity_of


def members_against_ensemble(task: TaskResults) -> Plot | None:
    """How far pooling lifts each entry above its average member."""
    sources = ["test/member/accuracy", *(f"test/{pooling}/accuracy" for pooling in POOLINGS)]
    entries = [entry for entry in task.entries if all(entry.estimate(source) for source in sources)]
    if not entries:
        return None
    figure = new_figure(6.4, 1.3 + 0.36 * len(entries))
    axes = figure.add_subplot()
    for line, entry in enumerate(entries):
        member, *ensembles = (100 * known(entry.estimate(source)).mean for source in sources)
        for place, (ensemble, marker, fill) in enumerate(zip(ensembles, ("D", "o"), (True, False), strict=True)):
            height = line + (place - 0.5) * 0.26
            colour = entry.style.colour
            axes.plot([member, ensemble], [height, height], color=colour, linewidth=1.6, alpha=0.6, zorder=2)
            axes.plot(
                ensemble, height, marker, color=colour, markersize=6, zorder=4, markeredgecolor=colour,
                markerfacecolor=colour if fill else "white", markeredgewidth=1.3,
            )  # fmt: skip
        axes.plot([member, member], [line - 0.3, line + 0.3], color=entry.style.colour, linewidth=2.6, zorder=3)
    axes.set_yticks(range(len(entries)), [short(entry) for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)
    axes.set_xlabel(axis_title(sources[0], "test accuracy"))
    axes.set_title(task.title, loc="left")
    legend = [
        Line2D([], [], color=INK, marker="|", markersize=10, markeredgewidth=2.6, linestyle=""),
        Line2D([], [], color=INK, marker="D", markersize=6, linestyle=""),
        Line2D([], [], color=INK, marker="o", markersize=6, markerfacecolor="white", linestyle=""),
    ]
    names = ["mean member", *(f"ensemble, {pooling}" for pooling in POOLINGS)]
    figure.legend(legend, names, loc="outside lower center", ncols=3, frameon=False, handletextpad=0.3)
    text = (
        "Mean accuracy of the members alone (bar) and of the ensemble under both poolings, on test images, means over "
        "seeds. The longer the line, the more pooling adds."
    )
    return Plot("members_against_ensemble", "Members against ensemble", text, figure)


def diversity_against_accuracy(task: TaskResults) -> Plot | None:
    """How much the members of each ensemble differ, and how good they are on average."""
    disagreement, accuracy = "test/disagreement", "test/member/accuracy"
    points = [p for p in points_of(task, disagreement, accuracy, positive_x=False) if p.entry.num_members > 1]
    if not points:
        return None
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    draw_points(axes, points)
    frame_x(axes, points, quantity_of(disagreement))
    frame_y(axes, points, quantity_of(accuracy))
    axes.set_xlabel(axis_title(disagreement, "disagreement of two members"))
    axes.set_ylabel(axis_title(accuracy, "mean member accuracy"))
    axes.set_title(task.title, loc="left")
    dots = np.concatenate([np.stack([some_dots(point.x_S), some_dots(point.y_S)], axis=1) for point in points])
    bars = np.concatenate([bars_of(point) for point in points])
    place_labels(axes, [point.mean for point in points], [short(point.entry) for point in points], dots, bars, INK)
    text = (
        "Ensembles by the share of test images on which two of their members choose different classes, and by the mean "
        "accuracy of the members alone. Small dots are seeds, large markers their means with 95 % intervals. Pooling gains "
        "most from members that are good (up) and differ (right)."
    )
    text += dots_note(max(len(point.x_S) for point in points))
    return Plot("diversity_against_accuracy", "Diversity against member accuracy", text, figure)
