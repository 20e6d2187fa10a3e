"""Deep-ensemble equivalents as bars: how many independently trained networks each entry is worth."""

from matplotlib.axes import Axes

from benchmark.report.equivalents import LOSSES, equivalents, loss_of
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.plots.drawing import INK, Plot, new_figure, short
from benchmark.statistics import Equivalent

ROOM = 0.07
"""Beyond the sizes measured, as a share of the axis: as far as bars and intervals that go on are drawn."""


def equivalent_bars(task: TaskResults) -> Plot | None:
    """A row per entry that has a calibrated NLL, the single network included."""
    found = equivalents(task)
    entries = [entry for entry in task.entries if entry.label in found]
    if not entries:
        return None
    smallest, largest = found[entries[0].label].smallest, found[entries[0].label].largest
    beyond = ROOM * (largest + 1)
    figure = new_figure(6.4, 1.0 + 0.3 * len(entries))
    axes = figure.add_subplot()
    for row, entry in enumerate(entries):
        _draw(axes, entry, found[entry.label], row, beyond)
    axes.axvline(largest, color=INK, linestyle="--", linewidth=1, zorder=2.5, label="largest ensemble")
    axes.set_yticks(range(len(entries)), [short(entry) for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(0, largest + 5 * beyond)
    axes.set_xticks(range(0, largest + 1, -(-largest // 12)))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("deep-ensemble equivalent (networks)")
    axes.set_title(f"{task.title}; {task.pooling}", loc="left")
    scaled = "scaled on validation images" if loss_of(task, task.pooling) == LOSSES[0] else "under cross-validation"
    text = (
        f"The number of independently trained networks whose ensemble reaches the same NLL on test images ({task.pooling}, "
        f"{scaled}), with the interval of sizes whose NLL is not significantly different. Measured by ensembles of "
        f"{smallest} to {largest} networks, the largest at the dashed line; an arrow goes on beyond the sizes measured."
    )
    return Plot("equivalents", "Deep-ensemble equivalents", text, figure)


def _draw(axes: Axes, entry: Entry, equivalent: Equivalent, row: int, beyond: float) -> None:
    colour, end = entry.style.colour, equivalent.size
    below = equivalent.censored and equivalent.size == equivalent.smallest
    above = equivalent.censored and not below
    if below:
        end = equivalent.smallest - min(beyond, equivalent.smallest / 2)
    axes.barh(
        row, end, height=0.62, color=colour, alpha=0.5 if below else 0.85, linewidth=0, zorder=2, label=entry.label
    )
    reached = end
    if above:
        reached = end + beyond
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (reached, row), (end, row), zorder=3, arrowprops=arrow)
    if equivalent.low is not None and equivalent.high is not None:
        reached = max(reached, _draw_interval(axes, equivalent.low, equivalent.high, equivalent, row, beyond))
    axes.annotate(
        equivalent.text.partition(" [")[0], (reached, row), xytext=(5, 0), textcoords="offset points", va="center",
        fontsize=8,
    )  # fmt: skip


def _draw_interval(axes: Axes, low: float, high: float, equivalent: Equivalent, row: int, beyond: float) -> float:
    """Capped at its ends, with arrows where they lie beyond the sizes measured; returns how far right it is drawn."""
    if low > equivalent.largest or high < equivalent.smallest:
        return 0.0  # it lies beyond as a whole
    left, right = max(low, equivalent.smallest - beyond), min(high, equivalent.largest + beyond)
    axes.plot([left, right], [row, row], color=INK, linewidth=1.1, zorder=4)
    held_ends = ((left, "<", low >= equivalent.smallest), (right, ">", high <= equivalent.largest))
    for place, arrow, held in held_ends:
        axes.plot(place, row, marker="|" if held else arrow, color=INK, markersize=5 if held else 3.5, zorder=4)
    return right
