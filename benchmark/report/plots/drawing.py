"""What all plots share: the look, sizes, texts, legends and ticks, and the way from a figure to its files.

Figures are made without pyplot, so nothing global changes, and saved without dates, so that equal rows give equal files.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from benchmark.report.formats import one_line
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.quantities import Quantity, quantity_of, si_prefix
from benchmark.statistics import Estimate

Array = npt.NDArray[np.float64]

DOTS_PER_INCH = 200
MANY_PANELS_DOTS_PER_INCH = 150
INK = "#222222"
QUIET = "#8A8A8A"
LONGEST_LABEL = 32
MOST_DOTS = 200
"""Seeds drawn one by one for each entry; a blot of thousands tells no more."""


@dataclass(frozen=True)
class Plot:
    name: str
    title: str
    text: str
    """What is drawn and how to read it; under the figure and for those who can't see it."""
    figure: Figure
    wide: bool = False
    """Takes a whole line of the page."""


@contextmanager
def look() -> Iterator[None]:
    """The settings under which figures are made and saved."""
    settings = {
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
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it draws a box in its place
        yield


def new_figure(width: float, height: float, dots_per_inch: int = DOTS_PER_INCH) -> Figure:
    """Its size is in inches."""
    figure = Figure(figsize=(width, height), dpi=dots_per_inch, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Place the axes for good: laying out many panels takes longer than drawing them, and once is enough."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def png_and_pdf(figure: Figure) -> tuple[bytes, bytes]:
    settle(figure)
    undated = {"png": {"Software": None}, "pdf": {"CreationDate": None, "ModDate": None, "Producer": None}}
    files = {}
    for kind, metadata in undated.items():
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi="figure", metadata=metadata)
        files[kind] = file.getvalue()
    return files["png"], files["pdf"]


def short(entry: Entry) -> str:
    """The label as far as a plot has room for it: its beginning and its end."""
    label = one_line(entry.label)
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL // 2]}…{label[1 - LONGEST_LABEL // 2 :]}"


def axis_title(source: str, title: str = "") -> str:
    quantity = quantity_of(source)
    return " ".join([title or quantity.title, f"({quantity.unit})" if quantity.unit else ""]).strip()


def nll_source(task: TaskResults) -> str:
    """NLL under the fitted temperature where any run has it: raw NLL mixes up how good and how sure networks are."""
    calibrated = f"test/{task.pooling}/nll_calibrated"
    return calibrated if task.holds(calibrated) else f"test/{task.pooling}/nll"


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def limits(values: Sequence[Array], ends: Sequence[Array], quantity: Quantity) -> tuple[float, float]:
    """Room for every value; intervals, given by their ends, widen it by a third at most: two seeds have enormous ones."""
    low, high = np.concatenate(values).min(), np.concatenate(values).max()
    room = max((high - low) / 3, 0.005 * quantity.scale)
    furthest = np.concatenate([*ends, [low, high]])
    low, high = max(furthest.min(), low - room), min(furthest.max(), high + room)
    margin = 0.12 * max(high - low, 0.01 * quantity.scale)
    low = max(low - margin, -0.01 * quantity.scale)  # no metric or cost is below 0
    return float(low), float(min(high + margin, 101) if quantity.unit == "%" else high + margin)


def some_dots(values_S: Array) -> Array:
    """At most MOST_DOTS of the values, evenly spread over the order they come in."""
    if len(values_S) <= MOST_DOTS:
        return values_S
    return values_S[np.linspace(0, len(values_S) - 1, MOST_DOTS).astype(int)]


def dots_note(most_seeds: int) -> str:
    """What a caption adds where not every seed is drawn."""
    return (
        f" Of more than {MOST_DOTS} seeds, {MOST_DOTS} are drawn; means are over all." if most_seeds > MOST_DOTS else ""
    )


def interval(
    axes: Axes, centre: tuple[float, float], low: float, high: float, across: bool, entry: Entry, size: float = 1.0
) -> None:
    """A capped bar from `low` to `high` through the centre: along x where `across`, else along y."""
    if low == high:
        return
    x, y = ((low, high), (centre[1],) * 2) if across else ((centre[0],) * 2, (low, high))
    cap = "|" if across else "_"
    axes.plot(
        x, y, marker=cap, markersize=5 * size, color=entry.style.colour, linewidth=1.1 * size, alpha=0.7, zorder=3
    )


def marker_style(entry: Entry, size: float = 8) -> dict[str, Any]:
    return {
        "marker": entry.style.marker,
        "color": entry.style.colour,
        "markersize": size,
        "markeredgecolor": "white",
        "markeredgewidth": 0.1 * size,
        "linestyle": "",
    }


def legend_below(
    figure: Figure, entries: Sequence[Entry], with_lines: bool = False, further: Sequence[Line2D] = ()
) -> None:
    """Marker and label of each entry below all axes, in as many columns as fit; takes legend_height() inches."""
    handles = [
        Line2D([], [], label=short(entry), **marker_style(entry, 7) | _line_style(entry, with_lines))
        for entry in entries
    ]
    figure.legend(
        handles=[*handles, *further], loc="outside lower center", ncols=_legend_columns(figure.get_figwidth(), entries),
        frameon=False, fontsize=8, handletextpad=0.4, columnspacing=1.2, labelspacing=0.35,
        handlelength=2.6 if with_lines else 1.4,
    )  # fmt: skip


def legend_height(width: float, entries: Sequence[Entry], num_further: int = 0) -> float:
    return 0.25 + 0.165 * -(-(len(entries) + num_further) // _legend_columns(width, entries))


def _line_style(entry: Entry, with_lines: bool) -> dict[str, Any]:
    return {"linestyle": entry.style.line, "linewidth": 1.6} if with_lines else {}


def _legend_columns(width: float, entries: Sequence[Entry]) -> int:
    longest = max([12, *(len(short(entry)) for entry in entries)])
    return max(1, int((width - 0.3) / (0.55 + 0.073 * longest)))


def log_ticks(axes: Axes, most: int = 9) -> None:
    """Labelled ticks at round numbers, also where the axis spans less than a decade; about `most` at most."""
    left, right = axes.get_xlim()
    decades = 10.0 ** np.arange(np.floor(np.log10(left)), np.ceil(np.log10(right)) + 1)
    ticks = np.array(MaxNLocator(min(7, most)).tick_values(left, right))
    for steps in ([1], [1, 3], [1, 2, 5]):
        round_numbers = np.array([step * decade for decade in decades for step in steps])
        round_numbers = round_numbers[(round_numbers >= left) & (round_numbers <= right)]
        if len(round_numbers) >= min(4, most - 1):
            ticks = round_numbers[:: -(-len(round_numbers) // most)]
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: round_number(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def round_number(value: float) -> str:
    prefix, divisor = si_prefix(value)
    return f"{value / divisor:.3g} {prefix}".rstrip()
