"""A report whose every string is hostile: title, options, devices, reasons, claims. All of it shows as text, nothing runs."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from simulated_study import failed_row, simulate, small_study
from test_report_formats import assert_latex_is_sound

from benchmark.config import expand
from benchmark.report.formats import comma_separated
from benchmark.report.table import Column, Table
from benchmark.report.write import write_report

HOSTILE = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)> \"' onload='x' {{ 7 * 7 }}"
HOSTILE += " ${x} \\input{x} %&#^~_"
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\r=1+1", "\n@SUM(1)", "-cmd|' /C calc'!A0"]
NUMBERS = ["-0.5", "+3", "-1e-05", "-12"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings of an option, one run that failed, one published claim."""
    root = tmp_path_factory.mktemp("results")
    methods = ["single", *({"method": "mixmo", "num_members": 2, "mixing": mixing} for mixing in (HOSTILE, "=1+1"))]
    study = small_study(methods, title=HOSTILE)
    results = simulate(root, study, images=40)
    for run in expand(study):
        row = results.row(run.key)
        assert row is not None
        environment = row["environment"] | {"device": HOSTILE, "commit": HOSTILE, "versions": {HOSTILE: HOSTILE}}
        results.write_row(row | {"environment": environment, "data": {"fingerprint": HOSTILE}, "finished": HOSTILE})
    results.write_row(failed_row(expand(study)[-1], HOSTILE))
    results.write_row(failed_row(expand(study)[-2], FORMULAS[0]))
    sides = {"first": {"method": "mixmo", "num_members": 2}, "second": {"method": "single"}}
    claim = sides | {"id": HOSTILE, "source": {"name": HOSTILE, "where": HOSTILE}, "note": HOSTILE, "dataset": "digits"}
    claim |= {"network": "wideresnet10x1", "metric": "accuracy", "direction": "higher"}
    (root / "published").mkdir()
    (root / "published" / "claims.yaml").write_text(yaml.safe_dump({"claims": [claim]}))
    return write_report(results, study)


class Page(HTMLParser):
    """What a browser would see: elements, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_hostile_text_and_runs_none_of_it(report: Path) -> None:
    text = (report / "report.html").read_text()
    page = Page(text)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert not [name for name in page.attributes if name.startswith("on")]
    assert not re.search(r'src="(?!data:)', text)
    shown = " ".join(HOSTILE.split())
    assert page.text.count(shown) > 20  # title, label, reason, device, commit, versions, data, claim, …
    assert "{{ 7 * 7 }}" in page.text
    policy = re.search(r"default-src 'none'.*script-src 'sha256-", text)
    assert policy, "a browser runs the page's own script alone"


def test_markdown_holds_no_element(report: Path) -> None:
    for path in [report / "report.md", *report.glob("tables/*.md")]:
        assert not re.search(r"<[a-z/!]", path.read_text(), re.IGNORECASE)


def test_latex_holds_no_command_of_a_file(report: Path) -> None:
    paths = list(report.glob("tables/*.tex"))
    assert sum("textbackslash{}input" in path.read_text() for path in paths) > 5
    for path in paths:
        text = path.read_text()
        [row, *_] = [line for line in text.splitlines() if line.endswith(r" \\")]
        assert_latex_is_sound(text, len(re.findall(r"(?<!\\)&", row)) + 1)
        assert "\\input" not in text


def test_cells_of_csv_start_no_formula(report: Path) -> None:
    paths = list(report.glob("tables/*.csv"))
    cells = [cell for path in paths for line in csv.reader(io.StringIO(path.read_text())) for cell in line]
    assert "'=1+1" in cells
    started = [cell for cell in cells if re.match(r"[=+@\t\r-]", cell)]
    assert not [cell for cell in started if not re.fullmatch(r"-[\d.e-]+", cell)]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text: str) -> None:
    [_, [cell]] = csv.reader(io.StringIO(comma_separated(a_table(text))))
    assert cell == "'" + text.strip()


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_stays_a_number(text: str) -> None:
    [_, [cell]] = csv.reader(io.StringIO(comma_separated(a_table(text))))
    assert cell == text


def a_table(text: str) -> Table:
    return Table("a", "a", "", [Column("a", "a")], [[text]], [], [None])
