"""What a table is, and how those with one line per method are made: numbers with intervals, the best where it is shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.report.gather import Entry, TaskResults
from benchmark.report.palette import Style
from benchmark.report.quantities import Quantity, cell_text, quantity_of
from benchmark.statistics import CONFIDENCE, Estimate, holm

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
    low: float | None = None
    high: float | None = None
    """Ends of an interval that is not centred on the estimate; infinite beyond what was measured."""


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    text: str
    """What it shows, in a sentence or two."""
    columns: list[Column]
    rows: list[list[Cell | str]]
    notes: list[str]
    styles: Sequence[Style | None]
    """One for each row: the method's colour and marker."""


@dataclass(frozen=True)
class Line:
    """A line of a table: an entry on a task."""

    task: TaskResults
    entry: Entry
    label: str


def lines_of(task: TaskResults) -> list[Line]:
    return [Line(task, entry, entry.label) for entry in task.entries]


def entries_table(
    lines: Sequence[Line],
    name: str,
    title: str,
    text: str,
    sources: Iterable[str] | Mapping[str, str],
    always: Iterable[str] = (),
    notes: Iterable[str] = (),
    header: str = "method",
) -> Table | None:
    """One line per entry, one column per source that has any number. `sources` may map them to titles of their own."""
    titles = sources if isinstance(sources, Mapping) else dict.fromkeys(sources, "")
    tasks = list({line.task.name: line.task for line in lines}.values())
    kept = [source for source in titles if source in always or any(task.holds(source) for task in tasks)]
    if not kept:
        return None
    from benchmark.report.comparability import difference_note  # which makes a table itself

    quantities = {source: quantity_of(source) for source in kept}
    marks, deviations = _deviations([line.entry for line in lines])
    cells = {source: _cells(lines, source, quantities[source]) for source in kept}
    return Table(
        name,
        title,
        text,
        [Column("method", header), *(Column(s, quantities[s].header(titles[s]), quantities[s]) for s in kept)],
        [
            [f"{line.label} {marks.get(line.entry.label, '')}".strip(), *(cells[source][index] for source in kept)]
            for index, line in enumerate(lines)
        ],
        [*notes, *(task.unfinished for task in tasks if task.unfinished), *deviations, *difference_note(lines)],
        [line.entry.style for line in lines],
    )


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


def _cells(lines: Sequence[Line], source: str, quantity: Quantity) -> list[Cell]:
    best = set()
    if quantity.better:
        for name in {line.task.name for line in lines}:
            best |= _best([line for line in lines if line.task.name == name], source, quantity)
    cells = []
    for line in lines:
        estimate, entry = line.entry.estimate(source), line.entry
        text = cell_text(source, estimate, entry.finished, entry.planned)
        cells.append(Cell(estimate, entry.finished, entry.planned, text, (line.task.name, entry.label) in best))
    return cells


def _best(lines: Sequence[Line], source: str, quantity: Quantity) -> set[tuple[str, str]]:
    """The task's entry, if any, that is better than each other one by a test whose p-values are Holm-adjusted.

    Entries whose counted cost is the lowest together are best together.
    """
    found = [(line.entry, estimate) for line in lines if (estimate := line.entry.estimate(source)) is not None]
    if len(found) < 2:
        return set()
    sign = -1 if quantity.better == "higher" else 1
    entry, top = min(found, key=lambda pair: sign * pair[1].mean)
    tied = [other for other, estimate in found if other is entry or (quantity.counted and estimate.mean == top.mean)]
    rivals = [(sign * estimate.mean, other) for other, estimate in found if all(other is not one for one in tied)]
    p_values: list[float | None] = []
    for _, other in sorted(rivals, key=lambda rival: rival[0]):  # the nearest first: one that is not beaten is enough
        comparison = lines[0].task.compare(entry, other, source)
        if comparison is None or comparison.p_value is None or comparison.p_value >= 1 - CONFIDENCE:
            return set()
        p_values.append(comparison.p_value)
    if not p_values or max(p for p in holm(p_values) if p is not None) >= 1 - CONFIDENCE:
        return set()
    return {(lines[0].task.name, one.label) for one in tied}


def _deviations(entries: Iterable[Entry]) -> tuple[dict[str, str], list[str]]:
    """Marks for entries that were not trained under the study's recipe, and the footnotes that say how."""
    marks, notes = {}, []
    deviating = {entry.label: entry for entry in entries if entry.deviations}
    for index, entry in enumerate(deviating.values()):
        mark = MARKS[index % len(MARKS)] * (index // len(MARKS) + 1)
        marks[entry.label] = mark
        changes = ", ".join(f"{key} = {value}" for key, value in entry.deviations.items())
        notes.append(f"{mark} {entry.label} deviates from the study's recipe: {changes}.")
    return marks, notes
