"""What `--methods`, `--metric`, `--group-by` and `--format` choose of a report, as text for standard output."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from benchmark.errors import UserError, unknown
from benchmark.report import formats
from benchmark.report.gather import Entry, Gathered, TaskResults
from benchmark.report.sources import source_of
from benchmark.report.table import Line, Table, entries_table
from benchmark.report.tables import make_tables, summary_sources

GROUPS: dict[str, Callable[[TaskResults, Entry], str]] = {
    "task": lambda task, entry: task.title,
    "method": lambda task, entry: entry.label,
    "dataset": lambda task, entry: task.task.folder or task.task.dataset,
    "network": lambda task, entry: task.task.network_slug,
    "num_members": lambda task, entry: f"{entry.num_members} members" if entry.num_members > 1 else "single network",
}
"""By what lines are put together in a table."""

FORMATS = ("markdown", "csv", "latex")


def with_methods(gathered: Gathered, names: Sequence[str]) -> Gathered:
    """Only the entries of these labels or methods, costs still relative to the single network. Raises UserError."""
    labels = {entry.label: entry.method for task in gathered.tasks for entry in task.entries}
    for name in names:
        if name not in labels and name not in labels.values():
            raise UserError(f"--methods: {unknown('method', name, {*labels, *labels.values()})}")
    tasks = []
    for task in gathered.tasks:
        entries = [entry for entry in task.entries if entry.label in names or entry.method in names]
        runs = task.runs[task.runs["label"].isin([entry.label for entry in entries])]
        tasks.append(replace(task, entries=entries, runs=runs))
    kept = gathered.runs["label"].isin([label for label in labels if label in names or labels[label] in names])
    return replace(gathered, tasks=tasks, runs=gathered.runs[kept])


def selected_tables(gathered: Gathered, metrics: Sequence[str], group_by: str, pooling: str) -> list[Table]:
    """A report's tables of each task; of given metrics, or under another grouping, one table for each group."""
    if not metrics and group_by == "task":
        several = len(gathered.tasks) > 1
        return [
            replace(table, title=f"{table.title}: {task.title}" if several else table.title)
            for task in gathered.tasks
            for table in make_tables(task)
        ]
    sources = {source_of(metric, pooling): "" for metric in metrics} or summary_sources(pooling)
    check_held(gathered, sources)
    groups: dict[str, list[Line]] = {}
    for task in gathered.tasks:
        for entry in task.entries:
            line = Line(task, entry, entry.label)
            groups.setdefault(GROUPS[group_by](task, entry), []).append(line)
    made = []
    for title, lines in groups.items():
        header = "task" if group_by == "method" else "method"
        table = entries_table(_labelled(lines), "selected", title, "", sources, header=header)
        if table is not None:
            made.append(table)
    return made


def as_text(tables: Sequence[Table], kind: str, study_name: str) -> str:
    """The tables one below the other; of several, each under its title."""
    parts = []
    for index, table in enumerate(tables):
        title = formats.one_line(table.title)
        if kind == "latex":
            parts.append(formats.latex(table, f"{study_name}-{table.name}" + (f"-{index + 1}" if index else "")))
        elif kind == "csv":
            parts.append((f"# {title}\n" if len(tables) > 1 else "") + formats.comma_separated(table))
        else:
            parts.append((f"{formats.escape_markdown(title)}\n\n" if len(tables) > 1 else "") + formats.markdown(table))
    return "\n".join(parts)


def check_held(gathered: Gathered, sources: Iterable[str]) -> None:
    """Raises UserError where no run has one of these columns."""
    for source in sources:
        if not any(task.holds(source) for task in gathered.tasks):
            raise UserError(f"--metric: no run of {gathered.study.name} has {source}")


def _labelled(lines: list[Line]) -> list[Line]:
    """Lines by what tells them apart: the method, the task or both."""
    methods, tasks = {line.entry.label for line in lines}, {line.task.name for line in lines}
    if len(tasks) == 1:
        return lines
    if len(methods) == 1:
        return [replace(line, label=line.task.title) for line in lines]
    return [replace(line, label=f"{line.entry.label}, {line.task.title}") for line in lines]
