"""Which method is best within a budget: `train_hours=4,latency_ms=5`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.errors import UserError, unknown
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.quantities import NONE, Quantity, cell_text, quantity_of
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import Estimate, best_probability


@dataclass(frozen=True)
class Axis:
    """A cost that a budget can limit: a column of the runs, and how many of its units make one of the budget's."""

    source: str
    unit: str
    size: float = 1.0


AXES = {
    "train_hours": Axis("measured/train_seconds", "h", 3600),
    "train_seconds": Axis("measured/train_seconds", "s"),
    "latency_ms": Axis("measured/latency_ms_batch1", "ms"),
    "throughput": Axis("measured/throughput_batch256", "images/s"),
    "memory_gb": Axis("measured/peak_bytes", "GB", 1e9),
    "energy_kj": Axis("measured/energy_joules", "kJ", 1e3),
    "parameters": Axis("costs/parameters", ""),
    "nonzero_parameters": Axis("costs/nonzero_parameters", ""),
    "training_flops": Axis("costs/training_flops", ""),
    "forward_flops": Axis("costs/forward_flops", ""),
}
"""What `--budget` takes. Throughput is a least, everything else a most."""


@dataclass(frozen=True)
class Limit:
    name: str
    value: float

    @property
    def axis(self) -> Axis:
        return AXES[self.name]

    def admits(self, cost: Estimate) -> bool:
        """By the mean over the runs."""
        if quantity_of(self.axis.source).better == "higher":
            return cost.mean >= self.value * self.axis.size
        return cost.mean <= self.value * self.axis.size

    def shown(self, cost: Estimate) -> str:
        """`train_hours 5.2`"""
        return f"{self.name} {cost.mean / self.axis.size:.3g}"

    def __str__(self) -> str:
        return f"{self.name}={self.value:g}"


def parse_budget(text: str) -> list[Limit]:
    """`train_hours=4,latency_ms=5`. Raises UserError."""
    limits: dict[str, Limit] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(f"--budget {text!r}: {part.strip()!r} is no limit; write it as train_hours=4,latency_ms=5")
        if name not in AXES:
            raise UserError(f"--budget: {unknown('cost', name, AXES)}")
        if name in limits:
            raise UserError(f"--budget {text!r}: {name} stands there twice")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            raise UserError(f"--budget {text!r}: {name} is a number above 0, not {value!r}")
        limits[name] = Limit(name, number)
    return list(limits.values())


def within_budget(task: TaskResults, limits: Sequence[Limit], source: str) -> Table:
    """The entries that fit, best first, each with the probability of being the best of them; the others in the notes."""
    fitting, notes = [], []
    for entry in task.entries:
        value, reasons = entry.estimate(source), _reasons(entry, limits)
        if value is None:
            reasons = [f"no run with {quantity_of(source).title}"]
        if value is None or reasons:
            notes.append(f"Left out: {entry.label}: {', '.join(reasons)}.")
        else:
            fitting.append((entry, value))
    quantity = quantity_of(source)
    fitting.sort(key=lambda pair: pair[1].mean, reverse=quantity.better == "higher")
    chances = best_probability([value for _, value in fitting], quantity.better == "higher")
    if not fitting:
        notes.insert(0, "Nothing fits.")
    if any(value.half_width is None for _, value in fitting):
        notes.append("A method with one run has no interval, so no probability can be given.")
    return Table(
        "budget",
        f"Within {', '.join(map(str, limits))}: {task.title}",
        f"Ranked by {quantity.title}; the probability of being the best of them follows from the runs' scatter.",
        [
            Column("method", "method"),
            Column(source, quantity.header(), quantity),
            Column("best_probability", "probability of being best"),
            *(Column(limit.axis.source, limit.name, _in_unit(limit)) for limit in limits),
        ],
        [
            [
                entry.label,
                _cell(entry, source),
                NONE if math.isnan(chance) else f"{chance:.2f}",
                *(_cell(entry, limit.axis.source, _in_unit(limit)) for limit in limits),
            ]
            for (entry, _), chance in zip(fitting, chances, strict=True)
        ],
        notes,
        [entry.style for entry, _ in fitting],
    )


def _reasons(entry: Entry, limits: Sequence[Limit]) -> list[str]:
    """Why an entry doesn't fit; empty where it does."""
    reasons = []
    for limit in limits:
        cost = entry.estimate(limit.axis.source)
        if cost is None:
            reasons.append(f"{limit.name} was not measured")
        elif not limit.admits(cost):
            reasons.append(limit.shown(cost))
    return reasons


def _in_unit(limit: Limit) -> Quantity:
    """The cost in the budget's unit, three significant digits."""
    quantity = quantity_of(limit.axis.source)
    if limit.axis.size == 1:
        return quantity
    return replace(quantity, unit=limit.axis.unit, scale=1 / limit.axis.size, prefix=False)


def _cell(entry: Entry, source: str, quantity: Quantity | None = None) -> Cell:
    estimate = entry.estimate(source)
    text = cell_text(source, estimate, entry.finished, entry.planned)
    if estimate is not None and quantity is not None:
        text = f"{quantity.show(estimate)} ({estimate.num_values}/{entry.planned})"
    return Cell(estimate, entry.finished, entry.planned, text)
