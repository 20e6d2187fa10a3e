"""Tables as Markdown, CSV and LaTeX: numbers as they should read, text of users without effect."""

import csv
import io
import re
from pathlib import Path

import pytest
from simulated_study import done_row, failed_row, simulate, small_study

from benchmark.config import Study, expand
from benchmark.report.formats import comma_separated, escape_latex, escape_markdown, latex, markdown
from benchmark.report.gather import gather
from benchmark.report.quantities import QUANTITIES, quantity_of
from benchmark.report.tables import Table, make_tables
from benchmark.statistics import Estimate
from benchmark.store import Results

HOSTILE = "<script>alert(1)</script> & 50% _x_ $y$ #1 \\input{a} ~^ {b | c} `d` *e* [f]\n\n\x1b[31m"
FORMULA = "=cmd|' /C calc'!A0"


@pytest.fixture
def hostile(tmp_path: Path) -> list[Table]:
    study, results = hostile_study(tmp_path)
    return make_tables(gather(results, study, results.rows(study)).tasks[0])


def hostile_study(root: Path) -> tuple[Study, Results]:
    study = small_study(["single", *({"method": "mixmo", "num_members": 2, "mixing": m} for m in (HOSTILE, "patch"))])
    results = simulate(root, study, images=40)
    results.write_row(failed_row(expand(study)[-1], FORMULA))
    results.write_row(failed_row(expand(study)[-2], HOSTILE))
    return study, results


def test_markdown_has_one_line_per_entry_and_no_html(hostile: list[Table]) -> None:
    for table in hostile:
        lines = markdown(table).splitlines()[: 2 + len(table.rows)]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}
        assert len(lines) == 2 + len(table.rows)
        assert "<script" not in markdown(table)
        assert "\x1b" not in markdown(table)


def test_csv_reads_back_and_starts_no_formula(hostile: list[Table]) -> None:
    unfinished = next(table for table in hostile if table.name == "unfinished")
    for table in hostile:
        lines = list(csv.reader(io.StringIO(comma_separated(table))))
        assert {len(line) for line in lines} == {len(lines[0])}
        assert len(lines) == 1 + len(table.rows)
        assert not [value for line in lines for value in line if re.match(r"[=+@]", value)]
    reasons = [line["reason"] for line in csv.DictReader(io.StringIO(comma_separated(unfinished)))]
    assert reasons[1] == "'" + FORMULA
    assert reasons[0].startswith("<script>alert(1)</script> & 50% _x_ $y$")  # CSV keeps text as it is


def test_latex_compiles_as_far_as_its_syntax_tells(hostile: list[Table]) -> None:
    assert {"calibration_prob_mean", "unfinished"} <= {table.name for table in hostile}
    for table in hostile:
        assert_latex_is_sound(latex(table, "x"), len(table.columns))


@pytest.mark.parametrize("row", ["a_b & 1", "a & 1%", "{a & 1", "a 1", "a & ±", "[a & 1", "a & $x$", "a & \\input"])
def test_latex_check_sees_what_breaks_a_table(row: str) -> None:
    frame = "\\begin{{tabular}}{{lr}}\n\\midrule\n{} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    assert_latex_is_sound(frame.format(r"a\_b & 1 $\pm$ 2\%"), 2)
    with pytest.raises(AssertionError):
        assert_latex_is_sound(frame.format(row), 2)


def assert_latex_is_sound(text: str, num_columns: int) -> None:
    """A reader of its own: braces, math, environments, cells per row, special characters, ASCII only."""
    assert text.isascii()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("% "))
    assert re.findall(r"\\begin{(\w+)}", body) == re.findall(r"\\end{(\w+)}", body)[::-1]
    rows = body.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    for row in rows:
        assert row.endswith(r" \\")
        assert not row.lstrip().startswith(("[", "*"))
        assert len(re.findall(r"(?<!\\)&", row)) == num_columns - 1
    plain = re.sub(r"\\[\\{}#$%&_]", "", body)
    depth = 0
    for char in plain:
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth >= 0
    assert depth == 0
    plain = re.sub(r"\$(\\\w+|-)\$", "", plain)
    plain = re.sub(r"\\label{[^}]*}", "", plain)
    assert not re.findall(r"[#$%_^~<>|\"]", plain)
    known = r"textbf|textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|texttt|begin|end|caption"
    known += r"|centering|toprule|midrule|bottomrule|par|footnotesize|linewidth|ldots|S|P"
    assert not [name for name in re.findall(r"\\([A-Za-z]+)", plain) if not re.fullmatch(known, name)]


def test_latex_text_comes_out_as_it_went_in() -> None:
    assert escape_latex("a_b & 5% -- é 中 – ±") == r"a\_b \& 5\% -{}- e \texttt{U+4E2D} -- $\pm$"
    assert escape_latex(r"\write18{ls}") == r"\textbackslash{}write18\{ls\}"


def test_markdown_leaves_method_names_readable() -> None:
    assert escape_markdown("deep_ensemble-3") == "deep_ensemble-3"
    assert escape_markdown("_x_ a|b <i>") == r"\_x\_ a\|b &lt;i&gt;"


@pytest.mark.parametrize(
    ("name", "mean", "half_width", "shown"),
    [
        ("accuracy", 0.81234, 0.00345, "81.2 ± 0.3"),
        ("accuracy", 1.0, None, "100.0"),
        ("gain", -0.01234, 0.001, "−1.2 ± 0.1"),
        ("gain", -0.0001, 0.001, "0.0 ± 0.1"),
        ("nll", 0.65432, 0.2, "0.654 ± 0.200"),
        ("training_flops", 1.2345e18, 0.0, "1.23 E"),
        ("training_flops", 36_479_194, 120_000, "36.5 ± 0.1 M"),
        ("training_flops", 999_600, None, "1.00 M"),
        ("training_flops", 12, None, "12.0"),
        ("train_seconds", 12345.6, 12.0, "12,346 ± 12"),
        ("train_seconds", 0.012345, None, "0.0123"),
        ("peak_bytes", 1.5e9, None, "1.50 G"),
    ],
)
def test_numbers_read_as_they_should(name: str, mean: float, half_width: float | None, shown: str) -> None:
    assert QUANTITIES[name].show(Estimate(mean, half_width, 3)) == shown


def test_headers_say_direction_and_unit() -> None:
    assert quantity_of("test/prob_mean/accuracy").header() == "accuracy ↑ (%)"
    assert quantity_of("measured/latency_ms_batch1").header() == "batch-1 latency ↓ (ms)"
    assert quantity_of("relative/costs/training_flops").header() == "training FLOPs ↓ (× single)"


def test_every_metric_of_a_row_has_a_name(tmp_path: Path) -> None:
    study = small_study(["single"], seeds=1)
    row = simulate(tmp_path, study, images=30).row(expand(study)[0].key)
    numbers = [*row["metrics"], *done_row(expand(study)[0], {})["costs"], *row["measured"]]
    assert len(numbers) > 30
    assert not [name for name in numbers if name.rpartition("/")[2] not in QUANTITIES]
