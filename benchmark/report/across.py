"""What several tasks say together: the middle of all runs, and how often one method beats another."""

from collections.abc import Callable, Sequence
from functools import partial

from benchmark.report.comparisons import rivals
from benchmark.report.equivalents import LOSSES
from benchmark.report.gather import Entry, Gathered, TaskResults
from benchmark.report.quantities import NONE, Quantity, quantity_of
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import Estimate, Interval, interquartile_mean, probability_of_improvement

METRICS = ("accuracy", *LOSSES, "ece")

IMPROVEMENT = Quantity(
    "probability of improvement", "%", None, "chance that a run of the method beats one of the other on a task drawn at random",
    100, 0, formula="mean over tasks of (pairs of runs won + half of those tied) / pairs", source="Agarwal et al. 2021",
)  # fmt: skip


def entries_of_all(tasks: Sequence[TaskResults], source: str) -> list[list[Entry]]:
    """For each label that has the number on every task its entries, one per task; in the first task's order."""
    by_label = [{entry.label: entry for entry in task.entries if entry.estimate(source)} for task in tasks]
    return [[here[label] for here in by_label] for label in by_label[0] if all(label in here for here in by_label)]


def interquartile_means(gathered: Gathered) -> Table:
    """The mean of the middle half of all runs of all tasks, for each metric of test images that every task has."""
    tasks = gathered.tasks
    pooling = tasks[0].pooling
    found = {source: entries_of_all(tasks, source) for source in (f"test/{pooling}/{metric}" for metric in METRICS)}
    found = {source: entries for source, entries in found.items() if entries}
    labels = list(dict.fromkeys(entries[0].label for each in found.values() for entries in each))
    cells: dict[str, dict[str, Cell]] = {label: {} for label in labels}
    for source, of_all in found.items():
        for entries in of_all:
            interval = interquartile_mean([entry.values(source) for entry in entries])
            cells[entries[0].label][source] = _cell(interval, quantity_of(source), entries)
    styles = {entry.label: entry.style for task in tasks for entry in task.entries}
    text = (
        f"The interquartile mean over the runs of all {len(tasks)} tasks, members pooled by {pooling}: of n runs the ⌊n/4⌋ "
        "lowest and highest are left out (Agarwal et al. 2021). In brackets the 95 % interval. Tasks of unlike difficulty "
        "share one scale here: compare methods, not values."
    )
    return Table(
        "interquartile_means",
        "Interquartile means over all tasks",
        text,
        [Column("method", "method"), *(Column(s, quantity_of(s).header(), quantity_of(s)) for s in found)],
        [[label, *(cells[label].get(source, Cell(None, 0, 0, NONE)) for source in found)] for label in labels],
        left_out(tasks, labels),
        [styles[label] for label in labels],
    )


def improvements(gathered: Gathered, metric: str) -> Table | None:
    """Each method against the single network and the deep ensemble of its size, over all tasks."""
    tasks = gathered.tasks
    source = f"test/{tasks[0].pooling}/{metric}"
    known = {entries[0].label: entries for entries in entries_of_all(tasks, source)}
    pairs = [pair for pair in rivals(tasks[0]) if all(entry.label in known for entry in pair)]
    if not pairs:
        return None
    quantity = quantity_of(source)
    rows: list[list[Cell | str]] = []
    for first, second in pairs:
        firsts, seconds = known[first.label], known[second.label]
        won, lost = ([entry.values(source) for entry in entries] for entries in (firsts, seconds))
        interval = probability_of_improvement(won, lost, quantity.better == "higher")
        rows.append([first.label, second.label, _cell(interval, IMPROVEMENT, firsts)])
    text = (
        f"How often a run of the first method has the better {quantity.title} than one of the second, on a task drawn at "
        f"random from these {len(tasks)} (Agarwal et al. 2021); 50 % is no difference. In brackets the 95 % interval."
    )
    columns = [
        Column("method", "method"),
        Column("against", "against"),
        Column("probability_of_improvement", IMPROVEMENT.header(), IMPROVEMENT),
    ]
    title = f"Probability of improvement, {quantity.title}"
    return Table(f"improvements_{metric}", title, text, columns, rows, [], [first.style for first, _ in pairs])


TABLES_ACROSS: list[Callable[[Gathered], Table | None]] = [
    interquartile_means,
    *(partial(improvements, metric=metric) for metric in METRICS),
]
"""Tables over all tasks of a study."""


def make_tables_across(gathered: Gathered) -> list[Table]:
    """Those of TABLES_ACROSS that the study's tasks have data for; none for a single task."""
    if len(gathered.tasks) < 2:
        return []
    made = [table for table in (make(gathered) for make in TABLES_ACROSS) if table is not None]
    return [table for table in made if table.rows]


def _cell(interval: Interval, quantity: Quantity, entries: Sequence[Entry]) -> Cell:
    """`86.2 [85.9, 86.5] (6/6)`: the runs of all tasks behind it."""
    finished, planned = sum(entry.finished for entry in entries), sum(entry.planned for entry in entries)
    shown = [
        quantity.show(Estimate(value, None, 1))
        for value in (interval.value, interval.low, interval.high)
        if value is not None
    ]
    text = shown[0] if len(shown) < 3 else f"{shown[0]} [{shown[1]}, {shown[2]}]"
    estimate = Estimate(interval.value, None, finished)
    return Cell(estimate, finished, planned, f"{text} ({finished}/{planned})", low=interval.low, high=interval.high)


def left_out(tasks: Sequence[TaskResults], labels: Sequence[str]) -> list[str]:
    """A note on the entries that are not among these labels, if there are any."""
    missing = dict.fromkeys(entry.label for task in tasks for entry in task.entries if entry.label not in labels)
    return [f"Left out, without a run on some task: {', '.join(missing)}."] if missing else []
