"""The report's tables. A table is one function (a task's results in, a table or None out) and one line in TABLES."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from benchmark.metrics.pooling import POOLINGS
from benchmark.report.gather import RELATIVE, Entry, TaskResults
from benchmark.report.palette import Style
from benchmark.report.quantities import Quantity, cell_text, quantity_of
from benchmark.statistics import Estimate

MARKS = "†‡§¶"


@dataclass(frozen=True)
class Column:
    """`source` names it in CSV files; a column of text has no quantity."""

    source: str
    header: str
    quantity: Quantity | None = None


@dataclass(frozen=True)
class Cell:
    """A number over runs. `text` is what tables show: `81.2 ± 0.3 (5/5)`."""

    estimate: Estimate | None
    finished: int
    planned: int
    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    text: str
    """What it shows, in a sentence or two."""
    columns: list[Column]
    rows: list[list[Cell | str]]
    notes: list[str]
    styles: list[Style | None]
    """One for each row: the method's colour and marker."""


def accuracy(task: TaskResults) -> Table | None:
    sources = {f"{split}/{pooling}/accuracy": f"{split}, {pooling}" for split in SPLITS for pooling in POOLINGS}
    return _table(task, "accuracy", "Accuracy", "On test and validation images.", sources, ["test/prob_mean/accuracy"])


def calibration(task: TaskResults, pooling: str) -> Table | None:
    text = (
        f"Of test images, members pooled by {pooling}. Scaled: after dividing the logits by a temperature fitted on "
        "validation images."
    )
    metrics = ("nll", "brier", "ece", "nll_calibrated", "brier_calibrated", "ece_calibrated")
    sources = [*(f"test/{pooling}/{metric}" for metric in metrics), f"validation/{pooling}/temperature"]
    return _table(task, f"calibration_{pooling}", f"Calibration, {pooling}", text, sources)


def robustness(task: TaskResults, pooling: str) -> Table | None:
    text = (
        f"Members pooled by {pooling}. Shifted: corrupted test images, mean over kinds and severities, then by severity "
        "(1 mild, 5 strong). AUROC: telling test images from foreign ones by confidence."
    )
    shifted = {f"shifted/{pooling}/{metric}": "" for metric in ("accuracy", "nll", "brier", "ece")}
    titles = {source: f"shifted {quantity_of(source).title}" for source in shifted}
    for severity in range(1, 6):
        titles[f"shifted/{severity}/{pooling}/accuracy"] = f"accuracy, severity {severity}"
    for name in task.task.out_of_distribution:
        titles[f"out_of_distribution/{name}/{pooling}/auroc"] = f"AUROC, {name}"
    return _table(task, f"robustness_{pooling}", f"Robustness, {pooling}", text, titles)


def members(task: TaskResults) -> Table | None:
    text = "What the members reach alone, on average, and what pooling them adds, on test images."
    sources = {
        "test/member/accuracy": "mean member accuracy",
        **{f"test/{pooling}/accuracy": f"ensemble accuracy, {pooling}" for pooling in POOLINGS},
        **{f"test/{pooling}/gain": f"gain, {pooling}" for pooling in POOLINGS},
        "test/disagreement": "",
        "test/member/nll": "mean member NLL",
    }
    return _table(task, "members", "Members and ensemble", text, sources)


def costs_counted(task: TaskResults) -> Table | None:
    names = ("parameters", "nonzero_parameters", "forward_flops", "forward_flops_nonzero")
    training = ("training_flops", "training_flops_nonzero", "images_seen")
    sources = [f"costs/{name}" for name in (*names, *training)]
    return _table(task, "costs_counted", "Costs, counted", "The same on every machine.", sources)


def costs_measured(task: TaskResults) -> Table | None:
    seconds = [f"{what}_seconds" for what in ("train", "compile", "evaluation", "checkpoint")]
    sources = [f"measured/{name}" for name in (*seconds, "latency_ms_batch1", "throughput_batch256", "peak_bytes")]
    text = f"On {' and '.join(task.devices)}." if task.devices else ""
    notes = ["Runs were measured on different devices: their times do not compare."] if len(task.devices) > 1 else []
    return _table(task, "costs_measured", "Costs, measured", text, sources, notes=notes)


def costs_relative(task: TaskResults) -> Table | None:
    text = "Each run's cost divided by the mean cost of the single network of the same task."
    sources = [f"relative/{source}" for source in RELATIVE]
    return _table(task, "costs_relative", "Costs relative to the single network", text, sources)


def unfinished(task: TaskResults) -> Table | None:
    """Every planned run without a result, with the reason."""
    missing = task.runs[task.runs["status"] != "done"]
    if missing.empty:
        return None
    styles = {entry.label: entry.style for entry in task.entries}
    columns = [Column(name, name) for name in ("method", "seed", "status", "reason")]
    rows: list[list[Cell | str]] = [
        [run["label"], str(run["seed"]), run["status"], run["reason"]] for run in missing.to_dict("records")
    ]
    text = "They count as planned in every cell above and enter no mean."
    return Table(
        "unfinished", "Missing and failed runs", text, columns, rows, [], [styles[str(row[0])] for row in rows]
    )


SPLITS = ("test", "validation")

TABLES: list[Callable[[TaskResults], Table | None]] = [
    accuracy,
    *(partial(calibration, pooling=pooling) for pooling in POOLINGS),
    *(partial(robustness, pooling=pooling) for pooling in POOLINGS),
    members,
    costs_counted,
    costs_measured,
    costs_relative,
    unfinished,
]


def make_tables(task: TaskResults) -> list[Table]:
    """Those of TABLES that the task has data for; of two poolings the headline's first."""
    made = [table for table in (make(task) for make in TABLES) if table is not None]
    if task.pooling == POOLINGS[0]:
        return made
    by_name = {table.name: table for table in made}
    swap = dict(zip(POOLINGS, reversed(POOLINGS), strict=True))
    return [by_name.get(_other_pooling(table.name, swap), table) for table in made]


def summary(task: TaskResults) -> Table:
    """The few columns that fit a terminal."""
    pooling = task.pooling
    sources = {
        f"test/{pooling}/accuracy": "test accuracy",
        f"test/{pooling}/nll": "",
        f"test/{pooling}/ece": "",
        "relative/costs/training_flops": "",
        "measured/train_seconds": "",
    }
    table = _table(task, "summary", "Overview", "", sources, [next(iter(sources))])
    assert table is not None  # its first column is always shown
    return table


def compact(table: Table) -> Table:
    """For a terminal: nothing bold, and the runs behind a line in one last column."""
    counts = [next(cell for cell in row if isinstance(cell, Cell)) for row in table.rows]
    rows: list[list[Cell | str]] = [
        [
            *(
                replace(c, best=False, text=c.text.rpartition(" ")[0] or c.text) if isinstance(c, Cell) else c
                for c in row
            ),
            f"{count.finished}/{count.planned}",
        ]
        for row, count in zip(table.rows, counts, strict=True)
    ]
    return replace(table, columns=[*table.columns, Column("runs", "runs")], rows=rows)


def _table(
    task: TaskResults,
    name: str,
    title: str,
    text: str,
    sources: Iterable[str] | dict[str, str],
    always: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> Table | None:
    """One line per entry, one column per source that has any number. `sources` may map them to titles of their own."""
    titles = sources if isinstance(sources, dict) else dict.fromkeys(sources, "")
    kept = [source for source in titles if task.holds(source) or source in always]
    if not kept:
        return None
    quantities = {source: quantity_of(source) for source in kept}
    marks, deviations = _deviations(task.entries)
    cells = {source: _cells(task, source, quantities[source]) for source in kept}
    return Table(
        name,
        title,
        text,
        [Column("method", "method"), *(Column(s, quantities[s].header(titles[s]), quantities[s]) for s in kept)],
        [
            [f"{entry.label} {marks.get(entry.label, '')}".strip(), *(cells[source][index] for source in kept)]
            for index, entry in enumerate(task.entries)
        ],
        [*notes, *([task.unfinished] if task.unfinished else []), *deviations],
        [entry.style for entry in task.entries],
    )


def _cells(task: TaskResults, source: str, quantity: Quantity) -> list[Cell]:
    estimates = [entry.estimate(source) for entry in task.entries]
    means = [estimate.mean for estimate in estimates if estimate is not None]
    best = None
    if quantity.better and len(means) > 1 and min(means) < max(means):
        best = max(means) if quantity.better == "higher" else min(means)
    cells = []
    for entry, estimate in zip(task.entries, estimates, strict=True):
        text = cell_text(source, estimate, entry.finished, entry.planned)
        best_mean = estimate is not None and estimate.mean == best
        cells.append(Cell(estimate, entry.finished, entry.planned, text, best_mean))
    return cells


def _deviations(entries: list[Entry]) -> tuple[dict[str, str], list[str]]:
    """Marks for entries that were not trained under the study's recipe, and the footnotes that say how."""
    marks, notes = {}, []
    for index, entry in enumerate(entry for entry in entries if entry.deviations):
        mark = MARKS[index % len(MARKS)] * (index // len(MARKS) + 1)
        marks[entry.label] = mark
        changes = ", ".join(f"{key} = {value}" for key, value in entry.deviations.items())
        notes.append(f"{mark} {entry.label} deviates from the study's recipe: {changes}.")
    return marks, notes


def _other_pooling(name: str, swap: dict[str, str]) -> str:
    for pooling, other in swap.items():
        if name.endswith(f"_{pooling}"):
            return name.removesuffix(pooling) + other
    return name
