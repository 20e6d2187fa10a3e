"""The page and report.md as text: what stands in them, and by what columns are sorted."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from benchmark.report.findings import Finding
from benchmark.report.page import (
    Content,
    Picture,
    Section,
    numeric_columns,
    render_markdown,
    render_page,
    sort_value,
    split_verdict,
    tally,
)
from benchmark.report.palette import Style
from benchmark.report.quantities import quantity_of
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import Estimate

ACCURACY = quantity_of("test/prob_mean/accuracy")
FINDING = Finding("Highest test accuracy", "nfe-3", "81.2 % (3/3)", "Not shown to be better than single.")


def number(mean: float | None) -> Cell:
    """Shown with so few digits that many look alike."""
    if mean is None:
        return Cell(None, 0, 3, "– (0/3)")
    return Cell(Estimate(mean, 0.01, 3), 3, 3, f"{mean:.2f} ± 0.01 (3/3)")


def number_table(name: str, means: list[float | None], num_columns: int = 1) -> Table:
    columns = [Column("method", "method"), *(Column(f"c{i}", ACCURACY.header(), ACCURACY) for i in range(num_columns))]
    rows: list[list[Cell | str]] = [[f"nfe-{i}", *(number(mean) for _ in columns[1:])] for i, mean in enumerate(means)]
    styles = [Style("#0072B2", "o", "-")] * len(rows)
    return Table(name, f"Title of {name}", f"Text of {name}.", columns, rows, [f"Note of {name}."], [*styles])


def text_table(name: str, sources: list[str], rows: list[list[Cell | str]]) -> Table:
    columns = [Column(source, source) for source in sources]
    return Table(name, f"Title of {name}", f"Text of {name}.", columns, rows, [], [None] * len(rows))


VERDICTS = text_table(
    "claims",
    ["claim", "verdict"],
    [["a", "reproduced"], ["b", "undecided: 12 runs each"], ["c", "not run"], ["d", "reproduced"], ["e", "doubted"]],
)


def png(width: int = 320, height: int = 180) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, "png")
    return file.getvalue()


def made_content(num_tasks: int = 1) -> Content:
    sections = [
        Section(
            f"task{task}",
            f"data set {task}, resnet",
            [FINDING],
            number_table("summary", [0.5, None]),
            [number_table("accuracy", [0.5, None]), number_table("diversity", [0.5, None])],
            [Picture("Every seed", "Dots are seeds.", png(), f"plots/every_seed-{task}.png", False, 4.0)],
        )
        for task in range(num_tasks)
    ]
    return Content(
        "A study",
        "study",
        "5 of 6 planned runs finished; 1 missing.",
        sections,
        [("accuracy ↑ (%)", "share of right images", "1/N Σₙ [argmaxₖ pₙₖ = y]", "Author 1999"), ("NLL", "a loss")],
        [("code", "0123456789ab")],
        VERDICTS,
        [Section("across", "Over all tasks", tables=[number_table("iqm", [0.5])])] if num_tasks > 1 else [],
        ["The finished runs are not of a kind: 2 devices."],
    )


class Elements(HTMLParser):
    """Start tags in order, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_numbers_are_sorted_by_what_they_are_and_not_by_what_is_shown() -> None:
    assert [sort_value(number(mean)) for mean in (0.1234567890123456, -2.5, None)] == ["0.1234567890123456", "-2.5", ""]
    shown = ["< 0.001", "0.001", "0.03", "0.2", "3", "999", "1,200", "4.5 k", "30 %", "−7"]
    values = [float(sort_value(text)) for text in shown]
    assert values[1:] == [0.001, 0.03, 0.2, 3, 999, 1200, 4500, 30, -7]
    assert 0.0009 < values[0] < values[1]
    assert [sort_value(text) for text in ("–", "", "12 each", "1,2,3", "nfe-3")] == [
        "",
        "",
        "12 each",
        "1,2,3",
        "nfe-3",
    ]


def test_a_column_of_written_numbers_stands_like_one_of_numbers() -> None:
    rows: list[list[Cell | str]] = [["3", "< 0.001", "12 each", "–"], ["4", "–", "", ""]]
    assert numeric_columns(text_table("p", ["seed", "p", "needed", "empty"], rows)) == [False, True, False, False]
    assert numeric_columns(number_table("accuracy", [None])) == [False, True]


def test_verdicts_are_marked_by_a_sign_and_their_word() -> None:
    column = VERDICTS.columns[1]
    assert split_verdict(column, "not run: no such network") == ("○", "open", "not run", ": no such network")
    assert split_verdict(column, "reproduced") == ("✓", "good", "reproduced", "")
    assert split_verdict(column, "worsened") is None
    assert split_verdict(Column("reason", "reason"), "failed") is None
    assert [(word, count) for _, _, word, count in tally(VERDICTS)] == [
        ("reproduced", 2), ("undecided", 1), ("not run", 1)
    ]  # fmt: skip
    page = render_page(made_content())
    signs = dict(
        re.findall(r'<span class="verdict \w+"><span aria-hidden="true">(.)</span> (?:\d )?([a-z ]+)</span>', page)
    )
    assert signs == {"✓": "reproduced", "?": "undecided", "○": "not run"}


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_page_and_markdown_say_the_same(num_tasks: int) -> None:
    content = made_content(num_tasks)
    page, text = render_page(content), render_markdown(content)
    said = [content.run_counts, *content.warnings, FINDING.evidence, FINDING.caution, VERDICTS.title, VERDICTS.text]
    said += ["Over all tasks", "Title of iqm"] if num_tasks > 1 else []
    said += [section.title for section in content.sections]
    said += [
        "Title of diversity",
        "Text of diversity.",
        "Note of diversity.",
        "Dots are seeds.",
        "Author 1999",
        "a loss",
    ]
    for what in [*said, "argmaxₖ pₙₖ = y", "0123456789ab", "undecided"]:
        assert what in page
        assert what.replace("[", r"\[") in text
    for told in (page, text):
        places = [told.index(what) for what in (content.warnings[0], "Summary", "reproduced", "Title of diversity")]
        assert places == sorted(places)
    assert text.count(FINDING.evidence) == num_tasks


def test_what_a_report_lacks_is_not_on_the_page() -> None:
    bare = Content("A study", "study", "All 2 planned runs finished.", [Section("a", "a")], [], [])
    page = render_page(bare)
    assert not Elements(page).of("table")
    assert not {"verdicts", "across-", "warning"} & {attributes.get("id") for _, attributes in Elements(page).found}
    assert 'class="warning"' not in page
    assert 'class="tally"' not in page
    assert "Plots" not in page
    assert "Warning" not in render_markdown(bare)


def test_links_lead_somewhere_and_names_are_unique() -> None:
    elements = Elements(render_page(made_content(3)))
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    targets = [str(link["href"])[1:] for link in elements.of("a")]
    assert {"summary", "verdicts", "across-across", "task-task2", "task-task2--plots", "reading", "origin"} <= set(
        targets
    )
    assert set(targets) <= set(names)


def test_tables_can_be_read_by_machines() -> None:
    content = made_content(2)
    page = render_page(content)
    elements = Elements(page)
    assert page.count("<caption>") == len(elements.of("table")) == 9
    assert {head["scope"] for head in elements.of("th")} == {"col", "row"}
    assert {head["title"] for head in elements.of("th") if "title" in head} == {ACCURACY.meaning}
    folds = {fold["id"]: "open" in fold for fold in elements.of("details")}
    assert (folds["task-task0--accuracy"], folds["task-task0--diversity"]) == (True, False)
    assert {(image["width"], image["height"]) for image in elements.of("img")} == {("320", "180")}


def test_text_of_users_stays_text() -> None:
    hostile = '<script>alert(1)</script><b onclick="x">\n\x1b[31m'
    table = text_table(hostile, [hostile, "verdict"], [[hostile, hostile]])
    finding = Finding(hostile, hostile, hostile, hostile)
    section = Section("a", hostile, [finding], table, [replace(table, notes=[hostile])])
    content = Content(
        hostile, hostile, hostile, [section, section], [(hostile,) * 4], [(hostile,) * 2], table, [], [hostile]
    )
    page = render_page(content)
    elements = Elements(page)
    assert len(elements.of("script")) == 1
    assert not [attributes for _, attributes in elements.found if "onclick" in attributes]
    assert not re.search(r"<(script|b)\b", render_markdown(content))


def test_the_same_content_gives_the_same_bytes() -> None:
    assert render_page(made_content(2)) == render_page(made_content(2))
