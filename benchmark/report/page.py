"""report.html: one file that holds everything, its pictures included, and asks the network for nothing."""

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.report.findings import Finding
from benchmark.report.formats import escape_markdown, markdown, one_line
from benchmark.report.tables import Cell, Table


@dataclass(frozen=True)
class Picture:
    title: str
    text: str
    png: bytes
    file: str
    """Where report.md finds it: a path below the report's folder."""
    wide: bool
    inches: float

    @property
    def widest(self) -> int:
        """Pixels beyond which its text would be larger than the page's."""
        return round(146 * self.inches)

    @property
    def data_uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """One task on the page."""

    name: str
    title: str
    findings: list[Finding]
    overview: Table
    tables: list[Table]
    pictures: list[Picture]


@dataclass(frozen=True)
class Content:
    """What report.html and report.md say."""

    title: str
    study_name: str
    run_counts: str
    sections: list[Section]
    meanings: list[tuple[str, str]]
    """What is measured, and what it means."""
    origin: list[tuple[str, str]]


READING = [
    (
        "81.2 ± 0.3 (4/5)",
        "mean over seeds and half the width of its 95 % Student t interval; four of five planned runs stand behind it",
    ),
    ("81.2 (1/1)", "one run gives no interval, so its distance to others may be chance"),
    ("– (0/2)", "planned, nothing finished; a dash alone: the runs have no such number"),
    ("bold", "the best mean of a column, whether or not intervals overlap"),
    ("↑ ↓", "higher, lower is better"),
    ("prob_mean", "members are pooled by the mean of their probabilities"),
    ("logit_mean", "members are pooled by the mean of their logits, then softmax; the two are never mixed"),
]
"""How to read a table: what stands there, what it means."""


def render_page(content: Content) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"one_line": one_line, "unbroken_unit": unbroken_unit}
    environment.globals |= {"reading": READING, "sort_value": sort_value, "zip": zip}
    return environment.get_template("report.html.jinja").render(content=content)


def unbroken_unit(header: str) -> str:
    """A header that may wrap, but not within `↓ (× single)`."""
    title, opening, unit = header.partition(" (")
    return title + (opening + unit).replace(" ", "\N{NO-BREAK SPACE}")


def sort_value(cell: Cell | str) -> str:
    """What a column is sorted by: the unrounded mean, nothing where there is none."""
    if isinstance(cell, str):
        return cell
    return "" if cell.estimate is None else repr(cell.estimate.mean)


def render_markdown(content: Content) -> str:
    """report.md: the same tables, and links to the plots beside it."""
    lines = [f"# {escape_markdown(content.title)}", "", content.run_counts, ""]
    for section in content.sections:
        lines += [f"## {escape_markdown(section.title)}", ""]
        for finding in section.findings:
            said = f"{finding.evidence}. {finding.caution}".strip()
            lines.append(f"- {finding.about}: **{escape_markdown(finding.answer)}**: {escape_markdown(said)}")
        lines += ["", markdown(section.overview)]
        for picture in section.pictures:
            lines += [f"![{picture.title}]({picture.file})", "", picture.text, ""]
        for table in section.tables:
            lines += [f"### {escape_markdown(table.title)}", "", escape_markdown(table.text), "", markdown(table)]
    for title, pairs in (("How to read it", READING + content.meanings), ("Where it comes from", content.origin)):
        lines += [f"## {title}", "", *(f"- **{escape_markdown(n)}**: {escape_markdown(text)}" for n, text in pairs), ""]
    return "\n".join(lines).rstrip() + "\n"
