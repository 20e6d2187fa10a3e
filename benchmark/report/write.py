"""Everything a report consists of, made in memory first and then written: nothing is left half-written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config import Study, expand
from benchmark.errors import UserError
from benchmark.report import formats
from benchmark.report.across import make_tables_across
from benchmark.report.claims import Claim, claims_table
from benchmark.report.findings import find, run_counts
from benchmark.report.gather import Gathered, gather
from benchmark.report.provenance import describe_origin
from benchmark.report.published import claims_about
from benchmark.report.table import Table, compact
from benchmark.report.tables import make_tables, summary
from benchmark.store import Results, write_atomically

if TYPE_CHECKING:
    from benchmark.report.page import Picture
    from benchmark.report.plots import Plot

GENERATED = {"tables": (".md", ".csv", ".tex"), "plots": (".png", ".pdf")}
"""Folders of a report and what it writes there; files of an earlier report are removed from them."""


def summary_table(results: Results, study: Study, pooling: str = "prob_mean") -> str:
    """The few columns that fit a terminal, one Markdown table per task. Reads only, and needs no run to be finished."""
    gathered = gather(results, study, results.rows(study), pooling)
    parts = []
    for task in gathered.tasks:
        table = compact(summary(task))
        title = f"{formats.one_line(task.title)}\n\n" if len(gathered.tasks) > 1 else ""
        parts.append(title + formats.markdown(table))
    return "\n".join(parts)


def read_finished(results: Results, study: Study, pooling: str, allow_mixed: bool) -> Gathered:
    """What the study's rows say, without writing anything.

    Raises UserError where no run is finished, where a row was changed by hand, and where rows stem from several code
    versions or devices unless `allow_mixed`.
    """
    planned = expand(study)
    gathered = gather(results, study, results.rows_of(study.name, planned), pooling, planned)
    return _checked(gathered, allow_mixed)


def write_report(results: Results, study: Study, pooling: str = "prob_mean", allow_mixed: bool = False) -> Path:
    """Collect the study's rows and write results/<study>/report/; returns that folder.

    `pooling` is the one of headlines and plots. Raises UserError as read_finished does, and where nothing can be written.
    """
    try:
        gathered = _checked(gather(results, study, results.collect(study), pooling), allow_mixed)
        claims = claims_about(gathered.tasks, results)
        folder = results.study_dir(study.name) / "report"
        files = _render(gathered, claims)
        for name, content in files.items():
            _write(folder / name, content)
        for path in report_files(folder):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink(missing_ok=True)  # another process may write the report, too
    except OSError as error:
        where = error.filename or results.study_dir(study.name)
        raise UserError(f"{where}: the report can't be written ({error.strerror or error})") from None
    return folder


def _checked(gathered: Gathered, allow_mixed: bool) -> Gathered:
    if not gathered.finished:
        raise UserError(_nothing_finished(gathered))
    if gathered.mixtures and not allow_mixed:
        mixed = "; ".join(gathered.mixtures)
        raise UserError(
            f"{gathered.study.name}: its rows do not compare: {mixed}; report them all the same: "
            f"python -m benchmark.report {gathered.study.name} --allow-mixed"
        )
    return gathered


def report_files(folder: Path) -> list[Path]:
    """What a report consists of on disk; whatever else lies in its folder is none of its business."""
    parts = [
        path
        for part, endings in GENERATED.items()
        if not (folder / part).is_symlink()  # what lies elsewhere was not written by a report
        for path in (folder / part).glob("*")
        if path.suffix in endings
    ]
    return [folder / "report.html", folder / "report.md", *sorted(parts)]


class _Files(dict[str, bytes]):
    """A report's files by their path below its folder. Tables and plots of one task of several bear its name."""

    def __init__(self, gathered: Gathered) -> None:
        super().__init__()
        self._study, self._warnings, self._several = gathered.study.name, gathered.warnings, len(gathered.tasks) > 1

    def tables(self, tables: Sequence[Table], task: str = "") -> list[Table]:
        """The tables with what each must say of the runs."""
        warned = [replace(table, notes=[*table.notes, *self._warnings]) for table in tables]
        for table in warned:
            name = self._named(table.name, task)
            self[f"tables/{name}.md"] = formats.markdown(table).encode()
            self[f"tables/{name}.csv"] = formats.comma_separated(table).encode()
            self[f"tables/{name}.tex"] = formats.latex(table, f"{self._study}-{name}").encode()
        return warned

    def pictures(self, plots: "Sequence[tuple[Plot, bytes, bytes]]", task: str = "") -> "list[Picture]":
        from benchmark.report.page import Picture

        pictures = []
        for plot, png, pdf in plots:
            name = f"plots/{self._named(plot.name, task)}"
            self[f"{name}.png"], self[f"{name}.pdf"] = png, pdf
            width = plot.figure.get_figwidth()
            pictures.append(Picture(plot.title, plot.text, png, f"{name}.png", plot.wide, width))
        return pictures

    def _named(self, name: str, task: str) -> str:
        return f"{name}-{task}" if task and self._several else name


def _render(gathered: Gathered, claims: Sequence[Claim]) -> dict[str, bytes]:
    # matplotlib and jinja are imported only where a report is written: summary_table() answers at once.
    from benchmark.report.page import Content, Section, render_markdown, render_page
    from benchmark.report.plots import make_plots, make_plots_across

    files = _Files(gathered)
    sections = [
        Section(
            task.name,
            task.title,
            find(task),
            summary(task),
            files.tables(make_tables(task), task.name),
            files.pictures(make_plots(task), task.name),
        )
        for task in gathered.tasks
    ]
    across = []
    if len(gathered.tasks) > 1:
        tables, pictures = files.tables(make_tables_across(gathered)), files.pictures(make_plots_across(gathered))
        across = [Section("all", "Over all tasks", tables=tables, pictures=pictures)]
    content = Content(
        gathered.study.title or gathered.study.name,
        gathered.study.name,
        run_counts(gathered),
        sections,
        _glossary([table for section in [*across, *sections] for table in section.tables]),
        describe_origin(gathered),
        files.tables([claims_table(gathered, claims)])[0] if claims else None,
        across,
        gathered.warnings,
    )
    files["report.md"] = render_markdown(content).encode()
    files["report.html"] = render_page(content).encode()
    return files


def _glossary(tables: list[Table]) -> list[tuple[str, ...]]:
    """Every quantity in the tables once: title with its unit, meaning, formula, source."""
    quantities = [column.quantity for table in tables for column in table.columns if column.quantity]
    return list({q.header(): (q.header(), q.meaning, q.formula, q.source) for q in quantities}.values())


def _nothing_finished(gathered: Gathered) -> str:
    failed = gathered.runs[gathered.runs["status"] == "failed"]
    why = f"; the first to fail: {formats.one_line(failed['reason'].iloc[0])}" if len(failed) else ""
    name = gathered.study.name
    return f"{name}: {run_counts(gathered)[:-1]}{why}; nothing to report: run python -m benchmark.sweep {name}"


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, lambda file: file.write(content))
