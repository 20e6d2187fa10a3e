"""report.html: one file that holds everything, its pictures included, and asks the network for nothing.

report.html.jinja holds its structure, report.css.jinja its look, report.js.jinja sorting and folding.
"""

import base64
import hashlib
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.report.findings import Finding
from benchmark.report.formats import escape_markdown, markdown, one_line
from benchmark.report.quantities import MINUS, NONE
from benchmark.report.table import Cell, Column, Table


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
    def pixels(self) -> tuple[int, int]:
        """Width and height, from the file's header: the page keeps their room free until they are decoded."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height

    @property
    def data_uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """One task on the page, or what several of them say together."""

    name: str
    title: str
    findings: list[Finding] = field(default_factory=list)
    overview: Table | None = None
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Content:
    """What report.html and report.md say."""

    title: str
    study_name: str
    run_counts: str
    sections: list[Section]
    glossary: Sequence[tuple[str, ...]]
    """What is measured: title, meaning and, where there are any, formula and source."""
    origin: list[tuple[str, str]]
    verdicts: Table | None = None
    """Published claims, one a line; a column `verdict` or `status` gets marks beside its words."""
    across: list[Section] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What a reader must know before any number: sentences, shown at the top."""


READING = [
    (
        "81.2 ± 0.3 (4/5)",
        "mean over seeds and half the width of its 95 % Student t interval; four of five planned runs stand behind it",
    ),
    ("81.2 (1/1)", "one run gives no interval, so its distance to others may be chance"),
    ("– (0/2)", "planned, nothing finished; a dash alone: the runs have no such number"),
    ("bold", "better than each other entry of its column: every test's p-value, Holm-adjusted, is below 0.05"),
    ("↑ ↓", "higher, lower is better"),
    ("prob_mean", "members are pooled by the mean of their probabilities"),
    ("logit_mean", "members are pooled by the mean of their logits, then softmax; the two are never mixed"),
]
"""How to read a table: what stands there, what it means."""

SORTING = (
    "a header",
    "clicked, or entered with the keyboard, sorts its table by unrounded values; once more turns the order round; gaps last",
)

MARKS = {
    "reproduced": ("✓", "good"),
    "agrees": ("✓", "good"),
    "better": ("▲", "good"),
    "contradicted": ("✗", "bad"),
    "differs": ("✗", "bad"),
    "worse": ("▼", "bad"),
    "failed": ("✗", "bad"),
    "undecided": ("?", "open"),
    "not run": ("○", "open"),
    "missing": ("○", "open"),
    "skipped": ("○", "open"),
}
"""Signs beside a verdict's or status's word, so that no reader depends on colour."""

VERDICT_COLUMNS = ("verdict", "status")

NUMBER = r"([<>] )?([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?: ?([kMGTPE]))?(?: ?%)?"

FIRST_READ = frozenset({"accuracy", "comparisons_accuracy", "paper_against_ours", "costs_relative", "unfinished"})
"""Names of tables that stand open; the others open on a click, in print, and by a button for all of them."""


def render_page(content: Content) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"one_line": one_line, "unbroken_unit": unbroken_unit, "digest": _digest}
    environment.globals |= {
        "first_read": FIRST_READ,
        "glance": _glance,
        "numeric_columns": numeric_columns,
        "reading": [SORTING, *READING],
        "sort_value": sort_value,
        "split_verdict": split_verdict,
        "tally": tally,
        "zip": zip,
    }
    return environment.get_template("report.html.jinja").render(content=content)


def _digest(script: str) -> str:
    """What the page's security policy knows its script by: no other may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def unbroken_unit(header: str) -> str:
    """A header that may wrap, but not within `↓ (× single)`."""
    title, opening, unit = header.partition(" (")
    return title + (opening + unit).replace(" ", "\N{NO-BREAK SPACE}")


def sort_value(cell: Cell | str) -> str:
    """What a column is sorted by: the unrounded mean, a text's number, the text itself; nothing where there is none."""
    if isinstance(cell, str):
        text = one_line(cell)
        number = _number_in(text)
        return ("" if text == NONE else text) if number is None else repr(number)
    return "" if cell.estimate is None else repr(cell.estimate.mean)


def _number_in(text: str) -> float | None:
    """0.012, -3, 1,200 or 4.5 M; `< 0.001` lies just below 0.001."""
    found = re.fullmatch(NUMBER, text.replace(MINUS, "-"), re.ASCII)
    if found is None:
        return None
    bound, digits, prefix = found.groups()
    value = float(digits.replace(",", "")) * 1000.0 ** (" kMGTPE".index(prefix) if prefix else 0)
    return value * {"< ": 0.999, "> ": 1.001}.get(bound, 1.0)


def numeric_columns(table: Table) -> list[bool]:
    """Which columns hold numbers, those written as text included, and nothing else."""
    numeric = []
    for index, column in enumerate(table.columns):
        texts = [cell for row in table.rows if isinstance(cell := row[index], str) and cell not in ("", NONE)]
        known = column.quantity is not None or (index > 0 and bool(texts))
        numeric.append(known and all(_number_in(one_line(text)) is not None for text in texts))
    return numeric


def split_verdict(column: Column, text: str) -> tuple[str, str, str, str] | None:
    """Sign, kind (good, bad, open), word and the rest of a verdict or status: `not run`, `: no such network`."""
    word = _verdict_word(text) if column.source in VERDICT_COLUMNS else None
    return (*MARKS[word], word, text.removeprefix(word)) if word else None


def _verdict_word(text: str) -> str | None:
    return next((word for word in MARKS if re.match(rf"{word}\b", text)), None)


def tally(table: Table) -> list[tuple[str, str, str, int]]:
    """How often each verdict was reached: sign, kind, word, lines."""
    indices = [index for index, column in enumerate(table.columns) if column.source in VERDICT_COLUMNS]
    words = Counter(_verdict_word(one_line(str(row[index]))) for row in table.rows for index in indices)
    return [(*sign, word, words[word]) for word, sign in MARKS.items() if words[word]]


def _glance(sections: list[Section]) -> list[tuple[str, list[Finding | None]]]:
    """What is asked, and each task's answer."""
    asked = dict.fromkeys(finding.about for section in sections for finding in section.findings)
    answers = [{finding.about: finding for finding in section.findings} for section in sections]
    return [(about, [of_task.get(about) for of_task in answers]) for about in asked]


def render_markdown(content: Content) -> str:
    """report.md: the same tables, and links to the plots beside it."""
    lines = [f"# {escape_markdown(content.title)}", "", escape_markdown(content.run_counts), ""]
    for warning in content.warnings:
        lines += [f"> **Warning:** {escape_markdown(warning)}", ""]
    lines += ["## Summary", ""]
    for section in content.sections:
        if len(content.sections) > 1:
            lines += [f"### {escape_markdown(section.title)}", ""]
        for finding in section.findings:
            said = f"{finding.evidence}. {finding.caution}".strip()
            lines.append(
                f"- {escape_markdown(finding.about)}: **{escape_markdown(finding.answer)}**: {escape_markdown(said)}"
            )
        lines.append("")
    if content.verdicts is not None:
        table = content.verdicts
        lines += [f"## {escape_markdown(table.title)}", "", escape_markdown(table.text), "", markdown(table)]
    for section in [*content.across, *content.sections]:
        lines += _markdown_section(section)
    lines += ["## How to read it", ""]
    for title, meaning, *rest in [*READING, *content.glossary]:
        lines.append(f"- **{escape_markdown(title)}**: {'; '.join(escape_markdown(t) for t in (meaning, *rest) if t)}")
    lines += ["", "## Where it comes from", ""]
    lines += [f"- **{escape_markdown(name)}**: {escape_markdown(text)}" for name, text in content.origin]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_section(section: Section) -> list[str]:
    lines = [f"## {escape_markdown(section.title)}", ""]
    if section.overview is not None:
        lines.append(markdown(section.overview))
    for picture in section.pictures:
        lines += [f"![{escape_markdown(picture.title)}]({picture.file})", "", escape_markdown(picture.text), ""]
    for table in section.tables:
        lines += [f"### {escape_markdown(table.title)}", "", escape_markdown(table.text), "", markdown(table)]
    return lines
