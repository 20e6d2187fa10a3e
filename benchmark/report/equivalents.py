"""Deep-ensemble equivalents: how many independently trained networks an entry is worth (Ashukha et al. 2020)."""

from benchmark.report.gather import Entry, TaskResults
from benchmark.report.quantities import NONE, Quantity
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import Equivalent, Estimate, deep_ensemble_equivalent

LOSSES = ("nll_calibrated", "nll_cross_validated")
"""Calibrated NLL: the temperature from validation images, or by cross-validation where none are held out."""


def loss_of(task: TaskResults, pooling: str) -> str | None:
    """Which calibrated NLL the task's equivalents go by; None where it has none."""
    return next((loss for loss in LOSSES if task.holds(f"test/{pooling}/{loss}")), None)


def deep_ensembles(task: TaskResults, pooling: str) -> dict[int, list[float]]:
    """Calibrated NLL of 1, 2, … independent networks, one value per run, from entries trained under the study's recipe.

    One network is the entry `single`; more are the first members of the largest deep ensemble, then of smaller ones.
    """
    loss = loss_of(task, pooling)
    known = [e for e in task.entries if e.method in ("single", "deep_ensemble") and not e.deviations and loss]
    curve: dict[int, list[float]] = {}
    for entry in sorted(known, key=lambda entry: (entry.method != "single", -entry.num_members)):
        for size in range(1, entry.num_members + 1):
            source = f"test/{pooling}/{loss}" if size == entry.num_members else f"first/{size}/{pooling}/{loss}"
            values = entry.values(source).tolist()
            if values:
                curve.setdefault(size, values)
    return dict(sorted(curve.items()))


def equivalents(task: TaskResults, pooling: str | None = None) -> dict[str, Equivalent]:
    """By label, the equivalent of each entry that has a calibrated NLL; empty without deep ensembles to measure by."""
    pooling = pooling or task.pooling
    curve, loss = deep_ensembles(task, pooling), loss_of(task, pooling)
    if len(curve) < 2 or 1 not in curve:
        return {}
    source = f"test/{pooling}/{loss}"
    values = {entry.label: entry.values(source).tolist() for entry in task.entries}
    return {label: deep_ensemble_equivalent(of_entry, curve) for label, of_entry in values.items() if of_entry}


def equivalents_table(task: TaskResults, pooling: str) -> Table | None:
    found = equivalents(task, pooling)
    if not found:
        return None
    sizes = deep_ensembles(task, pooling)
    quantity = Quantity(
        "deep-ensemble equivalent",
        "networks",
        "higher",
        "number of independently trained networks whose ensemble reaches the same calibrated NLL",
    )
    how = "scaled on validation images" if loss_of(task, pooling) == LOSSES[0] else "under test-time cross-validation"
    text = (
        f"How many independently trained networks reach the same NLL ({pooling}, {how}), with the interval of sizes whose "
        f"NLL is not significantly different; by ensembles of {', '.join(map(str, sizes))} networks, linear in between."
    )
    rows: list[list[Cell | str]] = [[entry.label, _cell(entry, found.get(entry.label))] for entry in task.entries]
    columns = [Column("method", "method"), Column("deep_ensemble_equivalent", quantity.header(), quantity)]
    title = f"Deep-ensemble equivalent, {pooling}"
    styles = [entry.style for entry in task.entries]
    return Table(f"equivalents_{pooling}", title, text, columns, rows, [], styles)


def _cell(entry: Entry, equivalent: Equivalent | None) -> Cell:
    if equivalent is None:
        return Cell(None, entry.finished, entry.planned, NONE)
    text = f"{equivalent.text} ({entry.finished}/{entry.planned})"
    estimate = Estimate(equivalent.size, None, entry.finished)
    return Cell(estimate, entry.finished, entry.planned, text, low=equivalent.low, high=equivalent.high)
