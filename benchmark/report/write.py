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
                path.unlink()
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
        path for part, endings in GENERATED.items() for path in (folder / part).glob("*") if path.suffix in endings
    ]
    return [folder / "report.html", folder / "report.md", *sorted(parts)]


def _render(gathered: Gathered, claims: Sequence[Claim]) -> dict[str, bytes]:
    """The report's files by their path below its folder."""
    # matplotlib and jinja are imported only where a report is written: summary_table() answers at once.
    from benchmark.report.page import Content, Picture, Section, render_markdown, render_page
    from benchmark.report.plots import make_plots, make_plots_across

    files: dict[str, bytes] = {}
    study, warned = gathered.study.name, gathered.warnings

    def written(tables: list[Table], suffix: str) -> list[Table]:
        tables = [replace(table, notes=[*table.notes, *warned]) for table in tables]
        for table in tables:
            name = f"{table.name}{suffix}"
            files[f"tables/{name}.md"] = formats.markdown(table).encode()
            files[f"tables/{name}.csv"] = formats.comma_separated(table).encode()
            files[f"tables/{name}.tex"] = formats.latex(table, f"{study}-{name}").encode()
        return tables

    def drawn(plots: "list[tuple[Plot, bytes, bytes]]", suffix: str) -> "list[Picture]":
        for plot, png, pdf in plots:
            files.update({f"plots/{plot.name}{suffix}.png": png, f"plots/{plot.name}{suffix}.pdf": pdf})
        return [
            Picture(p.title, p.text, png, f"plots/{p.name}{suffix}.png", p.wide, p.figure.get_figwidth())
            for p, png, _ in plots
        ]

    sections = []
    for task in gathered.tasks:
        suffix = f"-{task.name}" if len(gathered.tasks) > 1 else ""
        tables, pictures = written(make_tables(task), suffix), drawn(make_plots(task), suffix)
        sections.append(Section(task.name, task.title, find(task), summary(task), tables, pictures))
    together = Section("all", "Over all tasks")
    if len(gathered.tasks) > 1:
        tables, pictures = written(make_tables_across(gathered), ""), drawn(make_plots_across(gathered), "")
        together = replace(together, tables=tables, pictures=pictures)
    across = [together] if together.tables or together.pictures else []
    verdicts = written([claims_table(gathered, claims)], "")[0] if claims else None
    content = Content(
        gathered.study.title or study,
        study,
        run_counts(gathered),
        sections,
        _glossary([table for section in [*across, *sections] for table in section.tables]),
        describe_origin(gathered),
        verdicts,
        across,
        warned,
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
