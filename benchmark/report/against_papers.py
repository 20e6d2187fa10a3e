"""Published numbers beside those measured here.

A published number v, of one run unless its line says of how many, is held against the n runs here, mean m and standard
deviation s. With the publication's own standard deviation u, and k the runs behind v,

    m - v ± (√(t² s²/n + 1.96² u²/k) + r)

and without one, where its runs are taken to scatter as ours do, m - v ± (t s √(1/n + 1/k) + r): where the mean of k
further runs of ours would lie in 95 of 100 cases. t is Student's quantile for n - 1 degrees of freedom, r half a unit of
the last digit of v.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.report.comparisons import ALPHA
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.published import PublishedResult, load_published
from benchmark.report.quantities import MINUS, NONE, Quantity, quantity_of
from benchmark.report.sources import source_of
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import Estimate, estimate_mean, holm
from benchmark.statistics.comparison import Part, margin, p_value

OURS = Quantity("ours", "", None, "beside a published number: the mean of the runs here")
DIFFERENCE = Quantity(
    "ours - published", "", None, "with the interval in which the difference to a re-run of ours would lie"
)


@dataclass(frozen=True)
class Pair:
    """A published number and the runs here that it speaks of."""

    entry: Entry
    published: PublishedResult
    source: str
    """Column of the runs, under the pooling that the publication states, else the headline's."""
    ours: Estimate
    half_width: float | None
    """Of the difference; None where one run here gives none."""
    p_value: float | None

    @property
    def difference(self) -> float:
        return self.ours.mean - self.published.value

    def verdict(self, adjusted: float | None) -> str:
        if adjusted is None or self.half_width is None:
            return "undecided: one run here"
        if adjusted < ALPHA:
            return "differs"
        if abs(self.difference) > self.half_width:
            return "undecided: differs before Holm's correction"
        return "agrees" if self.half_width <= self.close else "undecided: too few runs here"

    @property
    def close(self) -> float:
        """The widest half interval that may be called agreement; wider ones say too little."""
        return 0.01 if quantity_of(self.source).unit == "%" else 0.05


def pairs(task: TaskResults) -> list[Pair]:
    """Every published number of the task's data set, network, methods and members that runs here have too."""
    found = []
    published = load_published(task.results)
    for entry in task.entries:
        for result in published:
            if result.fits(entry, task.task):
                source = source_of(result.metric, result.pooling or task.pooling)
                values = entry.values(source).tolist()
                if values:
                    found.append(_pair(entry, result, source, values))
    return found


def _pair(entry: Entry, result: PublishedResult, source: str, values_S: Sequence[float]) -> Pair:
    ours = estimate_mean(values_S)
    assert ours is not None
    if ours.num_values < 2:
        return Pair(entry, result, source, ours, None, None)
    parts = _parts(float(np.var(values_S, ddof=1)), ours.num_values, result)
    distance = max(abs(ours.mean - result.value) - result.rounding, 0.0)
    return Pair(entry, result, source, ours, margin(parts, ALPHA) + result.rounding, p_value(distance, parts))


def _parts(variance: float, num_runs: int, result: PublishedResult) -> list[Part]:
    """The parts of the difference's variance with their degrees of freedom."""
    behind, free = result.runs or 1, num_runs - 1
    if result.std is None:
        parts = [(variance * (1 / num_runs + 1 / behind), float(free))]
    else:
        parts = [(variance / num_runs, float(free)), (result.std**2 / behind, math.inf)]
    return [part for part in parts if part[0] > 0]


def paper_against_ours(task: TaskResults) -> Table | None:
    """A line for each published number, those of one method together."""
    found = pairs(task)
    if not found:
        return None
    adjusted = holm([pair.p_value for pair in found])
    rows: list[list[Cell | str]] = [
        [
            pair.entry.label,
            _metric(pair),
            _published(pair),
            _ours(pair),
            _difference(pair),
            pair.verdict(p),
            _epochs(pair),
            ", ".join(filter(None, (pair.published.source, pair.published.where, pair.published.note))),
        ]
        for pair, p in zip(found, adjusted, strict=True)
    ]
    text = (
        "What papers and their repositories report for the same data set, network, method and members, and options where "
        "they state them; recipes may differ. Difference: ours minus the published number, with the interval that the mean "
        "of as many further runs of ours as stand behind that number (one where it isn't said) would lie in; where "
        "a standard deviation is published it counts in place of ours. Differs: the p-value, adjusted after Holm over "
        f"the {len(rows)} line{'s' * (len(rows) != 1)}, is below {ALPHA:.2g}. Agrees: the interval holds 0 and is no wider "
        "than ± 1 point (± 0.05 for NLL and Brier). Undecided: neither, or one run here."
    )
    columns = [
        Column("method", "method"),
        Column("metric", "metric"),
        Column("published", "published"),
        Column("ours", OURS.header(), OURS),
        Column("difference", DIFFERENCE.header(), DIFFERENCE),
        Column("verdict", "verdict"),
        Column("epochs", "epochs there, here"),
        Column("source", "source"),
    ]
    notes = []
    if task.task.train_on == "split":
        notes.append("Trained here without the validation images that were held out; most publications train on all.")
    styles = [pair.entry.style for pair in found]
    return Table("paper_against_ours", "Paper against ours", text, columns, rows, notes, styles)


def _metric(pair: Pair) -> str:
    """`accuracy, logit_mean`; a single network pools nothing."""
    title = quantity_of(pair.source).title
    pooling = next((part for part in pair.source.split("/") if part.endswith("_mean")), "")
    return f"{title}, {pooling}" if pooling and pair.entry.num_members > 1 else title


def _published(pair: Pair) -> str:
    """`80.8 (std 0.3) %`, with the digits that were published."""
    quantity, result = quantity_of(pair.source), pair.published
    decimals = max(0, round(-math.log10(2 * result.rounding * quantity.scale)))
    std = "" if result.std is None else f" (std {result.std * quantity.scale:.{decimals}f})"
    return f"{result.value * quantity.scale:.{decimals}f}{std} {quantity.unit}".rstrip()


def _ours(pair: Pair) -> Cell:
    quantity, entry = quantity_of(pair.source), pair.entry
    text = f"{quantity.show(pair.ours)} {quantity.unit}".rstrip()
    return Cell(pair.ours, entry.finished, entry.planned, f"{text} ({pair.ours.num_values}/{entry.planned})")


def _difference(pair: Pair) -> Cell:
    quantity = quantity_of(pair.source)
    estimate = Estimate(pair.difference, pair.half_width, pair.ours.num_values)
    shown = quantity.show(estimate)
    unit = "points" if quantity.unit == "%" else quantity.unit
    sign = "" if shown.startswith(MINUS) else "+"
    return Cell(estimate, pair.entry.finished, pair.entry.planned, f"{sign}{shown} {unit}".rstrip())


def _epochs(pair: Pair) -> str:
    there, here = pair.published.epochs, pair.entry.epochs
    return ", ".join(NONE if epochs is None else f"{epochs:g}" for epochs in (there, here))
