"""Methods compared in pairs: each with the single network, and with the deep ensemble of as many members."""

from collections.abc import Sequence
from dataclasses import replace

from benchmark.report.gather import Entry, TaskResults
from benchmark.report.quantities import MINUS, NONE, Quantity, quantity_of
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import CONFIDENCE, Comparison, Estimate, holm
from benchmark.statistics.comparison import MOST_SEEDS

ALPHA = 1 - CONFIDENCE


def comparisons(task: TaskResults, metric: str) -> Table | None:
    """Differences in a metric of test images under the headline's pooling, p-values adjusted over the whole table."""
    source = f"test/{task.pooling}/{metric}"
    quantity = quantity_of(source)
    pairs = [(first, second) for first, second in rivals(task) if first.estimate(source) and second.estimate(source)]
    found = [comparison for pair in pairs if (comparison := task.compare(*pair, source)) is not None]
    if not found or len(found) < len(pairs):
        return None
    adjusted = holm([comparison.p_value for comparison in found])
    found = [at_level_of(comparison, len(found)) for comparison in found]
    difference = replace(
        quantity, title="difference", unit=unit_of_difference(quantity), better=None, formula="", source="",
        meaning="of a comparison: the first method minus the second",
    )  # fmt: skip
    detectable = replace(difference, title="detectable")
    rows: list[list[Cell | str]] = [
        [
            first.label,
            second.label,
            difference_cell(comparison, difference, first, second),
            p_text(comparison.p_value),
            p_text(p_value),
            verdict(comparison, p_value, quantity),
            NONE if comparison.detectable is None else detectable.show(Estimate(comparison.detectable, None, 1)),
            needed(comparison, p_value),
        ]
        for (first, second), comparison, p_value in zip(pairs, found, adjusted, strict=True)
    ]
    text = (
        f"{quantity.title} on test images ({task.pooling}): the first method minus the second, with its 95 % interval. "
        f"Better or worse where the p-value, adjusted over the {len(rows)} lines after Holm, is below {ALPHA:.2g}. "
        "Detectable: the smallest true difference that as many runs would find four times out of five, in a table of so many."
    )
    columns = [
        Column("method", "method"),
        Column("against", "against"),
        Column(f"{source}/difference", difference.header(), difference),
        Column("p", "p"),
        Column("p_adjusted", "p, Holm"),
        Column("verdict", "verdict"),
        Column("detectable", detectable.header()),
        Column("runs_needed", "runs needed"),
    ]
    styles = [first.style for first, _ in pairs]
    return Table(f"comparisons_{metric}", f"Comparisons, {quantity.title}", text, columns, rows, [], styles)


def rivals(task: TaskResults) -> list[tuple[Entry, Entry]]:
    """Every method against the single network, and every other ensemble against the deep ensemble of its size."""
    following = [entry for entry in task.entries if not entry.deviations]
    singles = [entry for entry in following if entry.method == "single"][:1]
    deep = {entry.num_members: entry for entry in reversed(following) if entry.method == "deep_ensemble"}
    against_single = [(entry, single) for single in singles for entry in task.entries if entry is not single]
    against_deep = [
        (entry, deep[entry.num_members])
        for entry in task.entries
        if entry.method not in ("single", "deep_ensemble") and entry.num_members in deep
    ]
    return against_single + against_deep


def difference_cell(comparison: Comparison, quantity: Quantity, first: Entry, second: Entry) -> Cell:
    """`+1.2 ± 0.4 (5/5, 5/5)`: the runs behind the first and the second."""
    estimate = Estimate(comparison.difference, comparison.half_width, comparison.num_first + comparison.num_second)
    shown = quantity.show(estimate)
    counts = f"{comparison.num_first}/{first.planned}, {comparison.num_second}/{second.planned}"
    sign = "" if shown.startswith(MINUS) else "+"
    return Cell(estimate, first.finished + second.finished, first.planned + second.planned, f"{sign}{shown} ({counts})")


def verdict(comparison: Comparison, p_value: float | None, quantity: Quantity) -> str:
    if p_value is None or p_value >= ALPHA:
        return "undecided"
    return "better" if (comparison.difference > 0) == (quantity.better == "higher") else "worse"


def needed(comparison: Comparison, p_value: float | None) -> str:
    """What would decide a difference as large as the one seen."""
    if p_value is not None and p_value < ALPHA:
        return ""
    if comparison.images_limit:
        return "more test images"
    return NONE if comparison.seeds_needed is None else f"{comparison.seeds_needed} each"


def p_text(p_value: float | None) -> str:
    if p_value is None:
        return NONE
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def unit_of_difference(quantity: Quantity) -> str:
    """Of two percentages it is in points."""
    return "points" if quantity.unit == "%" else quantity.unit


def at_level_of(comparison: Comparison, num_compared: int) -> Comparison:
    """For what would decide it among so many: Holm asks the smallest p-value for 0.05 over their number."""
    return replace(comparison, level=ALPHA / num_compared)


def undecided_because(comparisons: Sequence[Comparison]) -> str:
    """`10 runs of each would decide it`; of several comparisons what the hardest asks for."""
    if any(comparison.images_limit for comparison in comparisons):
        return "more runs can't decide it, the test images are too few"
    if any(comparison.difference == 0 for comparison in comparisons):
        return "no difference was seen"
    if any(comparison.scatter is not None and comparison.seeds_needed is None for comparison in comparisons):
        return f"more than {MOST_SEEDS:,} runs of each would be needed"
    runs = [comparison.seeds_needed for comparison in comparisons if comparison.seeds_needed is not None]
    return f"about {max(runs)} runs of each would decide it" if runs else ""
