"""The report's plots. A plot is one function (a task's results in, a Plot or None out) and one line in PLOTS.

Figures are made without pyplot, so nothing global changes, and saved without dates, so that equal rows give equal files.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from benchmark.metrics.calibration import ECE_BINS
from benchmark.metrics.pooling import POOLINGS
from benchmark.report.formats import one_line
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.label_places import place_labels
from benchmark.report.quantities import quantity_of, si_prefix
from benchmark.report.reliability import draw_reliability
from benchmark.statistics import estimate_mean

DOTS_PER_INCH = 200
INK = "#222222"
LONGEST_LABEL = 32


@dataclass(frozen=True)
class Plot:
    name: str
    title: str
    text: str
    """What is drawn and how to read it; under the figure and for those who can't see it."""
    figure: Figure
    wide: bool = False
    """Takes a whole line of the page."""


def accuracy_against(task: TaskResults, source: str, name: str) -> Plot | None:
    """Test accuracy over a cost: seeds as small dots, their mean as a large marker with its intervals."""
    accuracy = f"test/{task.pooling}/accuracy"
    if not task.holds(accuracy) or not task.holds(source):
        return None
    runs = task.runs[["label", accuracy, source]].dropna()
    runs = runs[runs[source] > 0]
    seeds = pd.DataFrame({"label": runs["label"], "x": runs[source], "y": 100 * runs[accuracy]})
    entries = [entry for entry in task.entries if entry.label in set(seeds["label"])]
    if not entries:
        return None
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    seaborn.scatterplot(
        seeds, x="x", y="y", hue="label", palette={entry.label: entry.style.colour for entry in entries},
        hue_order=[entry.label for entry in entries], s=14, alpha=0.55, linewidth=0, legend=False, ax=axes, zorder=2,
    )  # fmt: skip
    axes.set_xscale("log")
    points, bars = [], []
    for entry in entries:
        x, y = (estimate_mean(seeds.loc[seeds["label"] == entry.label, axis]) for axis in "xy")
        assert x is not None
        assert y is not None
        points.append((x.mean, y.mean))
        across, along = x.half_width or 0.0, y.half_width or 0.0
        left = max(x.mean - across, x.mean / 1000)  # a logarithmic axis has no 0
        bars += [[(left, y.mean), (x.mean + across, y.mean)], [(x.mean, y.mean - along), (x.mean, y.mean + along)]]
        for (start, end), cap in zip(bars[-2:], "|_", strict=True):
            if start != end:
                ends = zip(start, end, strict=True)
                axes.plot(*ends, marker=cap, markersize=5, color=entry.style.colour, linewidth=1.1, alpha=0.7, zorder=3)
        axes.plot(
            x.mean, y.mean, entry.style.marker, color=entry.style.colour, markersize=8, markeredgecolor="white",
            markeredgewidth=0.8, zorder=4,
        )  # fmt: skip
    axes.set_xlabel(_axis_title(source))
    axes.set_ylabel(_axis_title(accuracy, f"test accuracy, {task.pooling}"))
    axes.set_title(task.title, loc="left")
    _limit(axes, seeds, np.array(bars))
    _log_ticks(axes)
    place_labels(axes, points, [_short(entry) for entry in entries], seeds[["x", "y"]].to_numpy(), np.array(bars), INK)
    cost = quantity_of(source).title
    text = (
        f"Test accuracy ({task.pooling}) against {cost}, logarithmic. Small dots are seeds, large markers their means "
        "with 95 % intervals; a bar that leaves the frame goes on beyond it. Up and to the left is better."
    )
    return Plot(name, f"Accuracy against {cost}", text, figure)


def members_against_ensemble(task: TaskResults) -> Plot | None:
    """How far pooling lifts each entry above its average member."""
    sources = ["test/member/accuracy", *(f"test/{pooling}/accuracy" for pooling in POOLINGS)]
    entries = [entry for entry in task.entries if all(entry.estimate(source) for source in sources)]
    if not entries:
        return None
    figure = new_figure(6.4, 1.3 + 0.36 * len(entries))
    axes = figure.add_subplot()
    for line, entry in enumerate(entries):
        member, *ensembles = (100 * _mean(entry, source) for source in sources)
        for place, (ensemble, marker, fill) in enumerate(zip(ensembles, ("D", "o"), (True, False), strict=True)):
            height = line + (place - 0.5) * 0.26
            colour = entry.style.colour
            axes.plot([member, ensemble], [height, height], color=colour, linewidth=1.6, alpha=0.6, zorder=2)
            axes.plot(
                ensemble, height, marker, color=colour, markersize=6, zorder=4, markeredgecolor=colour,
                markerfacecolor=colour if fill else "white", markeredgewidth=1.3,
            )  # fmt: skip
        axes.plot([member, member], [line - 0.3, line + 0.3], color=entry.style.colour, linewidth=2.6, zorder=3)
    axes.set_yticks(range(len(entries)), [_short(entry) for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)
    axes.set_xlabel(_axis_title(sources[0], "test accuracy"))
    axes.set_title(task.title, loc="left")
    legend = [
        matplotlib.lines.Line2D([], [], color=INK, marker="|", markersize=10, markeredgewidth=2.6, linestyle=""),
        matplotlib.lines.Line2D([], [], color=INK, marker="D", markersize=6, linestyle=""),
        matplotlib.lines.Line2D([], [], color=INK, marker="o", markersize=6, markerfacecolor="white", linestyle=""),
    ]
    names = ["mean member", *(f"ensemble, {pooling}" for pooling in POOLINGS)]
    figure.legend(legend, names, loc="outside lower center", ncols=3, frameon=False, handletextpad=0.3)
    text = (
        "Mean accuracy of the members alone (bar) and of the ensemble under both poolings, on test images, means over "
        "seeds. The longer the line, the more pooling adds."
    )
    return Plot("members_against_ensemble", "Members against ensemble", text, figure)


def reliability(task: TaskResults) -> Plot | None:
    """From example files; entries without any are left out."""
    examples = {entry.label: task.examples(entry) for entry in task.entries}
    entries = [entry for entry in task.entries if examples[entry.label]]
    if not entries:
        return None
    columns = min(4, len(entries))
    lines = -(-len(entries) // columns)
    figure = new_figure(max(1.0 + 1.75 * columns, 4.0), 0.4 + 2.65 * lines)
    figure.suptitle(f"{task.title}; {task.pooling}", x=0.01, ha="left", fontsize="medium")
    draw_reliability(figure, columns, [(_short(e), e.style.colour, examples[e.label]) for e in entries], task.pooling)
    text = (
        f"Test images by confidence ({task.pooling}) in {ECE_BINS} equally wide bins, those of all seeds together. "
        "Above: accuracy of each bin (filled) and its gap to the mean confidence (hatched); on the diagonal both agree. Below: "
        "the share of images in each bin. The ECE is the mean over seeds."
    )
    return Plot("reliability", "Reliability", text, figure, wide=True)


PLOTS: list[Callable[[TaskResults], Plot | None]] = [
    partial(accuracy_against, source="costs/training_flops", name="accuracy_against_training_flops"),
    partial(accuracy_against, source="measured/latency_ms_batch1", name="accuracy_against_latency"),
    members_against_ensemble,
    reliability,
]


def make_plots(task: TaskResults) -> list[tuple[Plot, bytes, bytes]]:
    """Those of PLOTS that the task has data for, as PNG and PDF."""
    with _look():
        plots = [plot for plot in (make(task) for make in PLOTS) if plot is not None]
        return [(plot, _save(plot.figure, "png"), _save(plot.figure, "pdf")) for plot in plots]


@contextmanager
def _look() -> Iterator[None]:
    look = {
        **seaborn.axes_style("whitegrid"),
        **seaborn.plotting_context("paper"),
        "axes.titlesize": "medium",
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.08,
        "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
        "axes.edgecolor": "#888888",
        "grid.color": "#E4E4E4",
        "text.color": INK,
        "axes.labelcolor": INK,
        "text.parse_math": False,  # labels come from users: a $ is a $
        "pdf.fonttype": 42,  # text that stays text in a paper's PDF
    }
    with matplotlib.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it draws a box in its place
        yield


def new_figure(width: float, height: float) -> Figure:
    """Its size is in inches."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, kind: str) -> bytes:
    undated = {"png": {"Software": None}, "pdf": {"CreationDate": None, "ModDate": None, "Producer": None}}
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DOTS_PER_INCH, metadata=undated[kind])
    return file.getvalue()


def _mean(entry: Entry, source: str) -> float:
    estimate = entry.estimate(source)
    assert estimate is not None
    return estimate.mean


def _short(entry: Entry) -> str:
    """The label as far as a plot has room for it: its beginning and its end."""
    label = one_line(entry.label)
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL // 2]}…{label[1 - LONGEST_LABEL // 2 :]}"


def _axis_title(source: str, title: str = "") -> str:
    quantity = quantity_of(source)
    return " ".join([title or quantity.title, f"({quantity.unit})" if quantity.unit else ""]).strip()


def _limit(axes: Axes, seeds: pd.DataFrame, bars: npt.NDArray[np.float64]) -> None:
    """Room for every seed; intervals widen the frame by a third at most, for those of two seeds are enormous."""
    low, high = seeds["y"].min(), seeds["y"].max()
    room = max((high - low) / 3, 0.5)
    low, high = max(bars[..., 1].min(), low - room), min(bars[..., 1].max(), high + room)
    margin = 0.12 * max(high - low, 1.0)
    axes.set_ylim(max(low - margin, -1), min(high + margin, 101))
    left, right = seeds["x"].min(), seeds["x"].max()
    factor = max((right / left) ** 0.14, 1.25)
    axes.set_xlim(left / factor, right * factor)


def _log_ticks(axes: Axes) -> None:
    """Labelled ticks at round numbers, also where the axis spans less than a decade."""
    left, right = axes.get_xlim()
    decades = 10.0 ** np.arange(np.floor(np.log10(left)), np.ceil(np.log10(right)) + 1)
    for steps in ([1], [1, 3], [1, 2, 5]):
        ticks = np.array([step * decade for decade in decades for step in steps])
        ticks = ticks[(ticks >= left) & (ticks <= right)]
        if len(ticks) >= 4:
            break
    else:
        ticks = np.array(MaxNLocator(7).tick_values(left, right))
    axes.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _round_number(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _round_number(value: float) -> str:
    prefix, divisor = si_prefix(value)
    return f"{value / divisor:.3g} {prefix}".rstrip()
