"""Which entries are worth their cost: the probability of being on the Pareto front, against every cost."""

import math

from benchmark.report.gather import TaskResults
from benchmark.report.quantities import NONE, Quantity, quantity_of
from benchmark.report.sources import COUNTED, MEASURED
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import Estimate, front_probability

NO_PRICE = ("images_seen", "compile_seconds", "evaluation_seconds", "checkpoint_seconds")
"""What is counted or measured and is no price that a user pays for a method."""

AXES = (
    *(f"costs/{name}" for name in COUNTED if name not in NO_PRICE),
    *(f"measured/{name}" for name in MEASURED if name not in NO_PRICE),
)

ON_FRONT = Quantity(
    "on the front", "", "higher", "probability that no other entry is at least as good for no more cost", decimals=2,
    formula="share of draws of all true means, mean + standard error · t, in which no other entry beats it",
)  # fmt: skip


def fronts(task: TaskResults, metric: str) -> Table | None:
    """Each entry's probability of being on the front of a metric of test images and each cost; None below three entries."""
    source = f"test/{task.pooling}/{metric}"
    quantity = quantity_of(source)
    chances = {axis: found for axis in AXES if (found := _chances(task, source, axis))}
    if not chances:
        return None
    rows: list[list[Cell | str]] = [
        [entry.label, *(_cell(of_axis.get(entry.label), entry.finished, entry.planned) for of_axis in chances.values())]
        for entry in task.entries
    ]
    text = (
        f"Probability of being on the Pareto front of {quantity.title} ({task.pooling}) and each cost: that no other entry is "
        "at least as good for no more of it. It follows from the scatter over seeds; an entry with one run is left out."
    )
    columns = [
        Column("method", "method"),
        *(Column(f"front/{axis}", quantity_of(axis).title, ON_FRONT) for axis in chances),
    ]
    styles = [entry.style for entry in task.entries]
    return Table(f"pareto_{metric}", f"Pareto front, {quantity.title}", text, columns, rows, [], styles)


def _chances(task: TaskResults, value: str, cost: str) -> dict[str, float]:
    """By label; empty where fewer than three entries have an interval in the value and the cost."""
    found = [(entry.label, entry.estimate(cost), entry.estimate(value)) for entry in task.entries]
    known = [(label, c, v) for label, c, v in found if c is not None and v is not None and v.half_width is not None]
    if len(known) < 3:
        return {}
    sign = -1 if quantity_of(cost).better == "higher" else 1  # throughput: more of it costs less
    costs = [Estimate(sign * c.mean, c.half_width, c.num_values) for _, c, _ in known]
    chances = front_probability(costs, [v for _, _, v in known], quantity_of(value).better == "higher")
    return {label: float(chance) for (label, _, _), chance in zip(known, chances, strict=True) if math.isfinite(chance)}


def _cell(chance: float | None, finished: int, planned: int) -> Cell:
    if chance is None:
        return Cell(None, finished, planned, NONE)
    return Cell(Estimate(chance, None, finished), finished, planned, f"{chance:.2f}")
