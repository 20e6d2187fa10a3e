"""Everything a report consists of, made in memory first and then written: nothing is left half-written."""

from pathlib import Path

from benchmark.config import Study
from benchmark.errors import UserError
from benchmark.report import formats
from benchmark.report.findings import find, run_counts
from benchmark.report.gather import Gathered, gather
from benchmark.report.provenance import describe_origin
from benchmark.report.tables import Table, compact, make_tables, summary
from benchmark.store import Results, write_atomically

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


def write_report(results: Results, study: Study, pooling: str = "prob_mean") -> Path:
    """Collect the study's rows and write results/<study>/report/; returns that folder.

    `pooling` is the one of headlines and plots. Raises UserError where no run is finished or nothing can be written.
    """
    try:
        rows = results.collect(study)
        gathered = gather(results, study, rows, pooling)
        if not gathered.finished:
            raise UserError(_nothing_finished(gathered))
        folder = results.study_dir(study.name) / "report"
        files = _render(gathered)
        for name, content in files.items():
            _write(folder / name, content)
        for path in report_files(folder):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()
    except OSError as error:
        where = error.filename or results.study_dir(study.name)
        raise UserError(f"{where}: the report can't be written ({error.strerror or error})") from None
    return folder


def report_files(folder: Path) -> list[Path]:
    """What a report consists of on disk; whatever else lies in its folder is none of its business."""
    parts = [
        path for part, endings in GENERATED.items() for path in (folder / part).glob("*") if path.suffix in endings
    ]
    return [folder / "report.html", folder / "report.md", *sorted(parts)]


def _render(gathered: Gathered) -> dict[str, bytes]:
    """The report's files by their path below its folder."""
    # matplotlib and jinja are imported only where a report is written: summary_table() answers at once.
    from benchmark.report.page import Content, Picture, Section, render_markdown, render_page
    from benchmark.report.plots import make_plots

    files: dict[str, bytes] = {}
    sections = []
    for task in gathered.tasks:
        suffix = f"-{task.name}" if len(gathered.tasks) > 1 else ""
        tables, pictures = make_tables(task), []
        for table in tables:
            name = f"{table.name}{suffix}"
            files[f"tables/{name}.md"] = formats.markdown(table).encode()
            files[f"tables/{name}.csv"] = formats.comma_separated(table).encode()
            files[f"tables/{name}.tex"] = formats.latex(table, f"{gathered.study.name}-{name}").encode()
        for plot, png, pdf in make_plots(task):
            name = f"plots/{plot.name}{suffix}"
            files |= {f"{name}.png": png, f"{name}.pdf": pdf}
            pictures.append(Picture(plot.title, plot.text, png, f"{name}.png", plot.wide, plot.figure.get_figwidth()))
        sections.append(Section(task.name, task.title, find(task), summary(task), tables, pictures))
    content = Content(
        gathered.study.title or gathered.study.name,
        gathered.study.name,
        run_counts(gathered),
        sections,
        _meanings([table for section in sections for table in section.tables]),
        describe_origin(gathered),
    )
    files["report.md"] = render_markdown(content).encode()
    files["report.html"] = render_page(content).encode()
    return files


def _meanings(tables: list[Table]) -> list[tuple[str, str]]:
    """Every quantity in the tables once, with its unit."""
    quantities = [column.quantity for table in tables for column in table.columns if column.quantity]
    return list({quantity.header(): (quantity.header(), quantity.meaning) for quantity in quantities}.values())


def _nothing_finished(gathered: Gathered) -> str:
    failed = gathered.runs[gathered.runs["status"] == "failed"]
    why = f"; the first to fail: {formats.one_line(failed['reason'].iloc[0])}" if len(failed) else ""
    name = gathered.study.name
    return f"{name}: {run_counts(gathered)[:-1]}{why}; nothing to report: run python -m benchmark.sweep {name}"


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, lambda file: file.write(content))
