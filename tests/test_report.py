"""The report of a study: numbers against hand-computed ones, counts, honesty, files."""

import csv
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from simulated_study import done_row, failed_row, set_metrics, simulate, small_study, small_task
from test_report_formats import HOSTILE, hostile_study

from benchmark.config import Study, expand
from benchmark.errors import UserError
from benchmark.report import plots, write
from benchmark.report.findings import find
from benchmark.report.gather import TaskResults, gather
from benchmark.report.tables import Cell, Table, make_tables
from benchmark.report.write import summary_table, write_report
from benchmark.store import Results

ROOT = Path(__file__).parents[1]
ACCURACIES = {"single": [0.80, 0.82, 0.84], "mimo-2": [0.85, 0.86, 0.87], "nfe-3": [0.845, 0.85, 0.855]}


@pytest.fixture
def hand_made(tmp_path: Path) -> tuple[Study, Results]:
    """Three methods, three seeds; accuracies as above under prob_mean and one point higher under logit_mean."""
    entries = ["single", {"method": "mimo", "num_members": 2}, {"method": "nfe", "num_members": 3}]
    study, results = small_study(entries, seeds=3), Results(tmp_path)
    results.write_study(study)
    for run in expand(study):
        value = ACCURACIES[run.label][run.seed]
        metrics = {"test/prob_mean/accuracy": value, "test/logit_mean/accuracy": value + 0.01}
        results.write_row(
            done_row(run, metrics | {"test/member/accuracy": value - 0.05, "test/prob_mean/nll": 1 - value})
        )
    return study, results


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Results, Path]:
    """A report with everything in it, and hostile text."""
    entries = ["single", {"method": "nfe", "num_members": 3, "note": HOSTILE}, {"method": "nfe", "num_members": 2}]
    task = small_task(shifted={"kinds": ["contrast"], "severities": [1, 5]}, out_of_distribution=["cifar10"])
    study = small_study(entries, seeds=2, tasks=[task], title=HOSTILE)
    results = simulate(tmp_path_factory.mktemp("full"), study, images=60)
    results.write_row(failed_row(expand(study)[-1], HOSTILE))
    return study, results, write_report(results, study)


def task_of(study: Study, results: Results, pooling: str = "prob_mean") -> TaskResults:
    return gather(results, study, results.rows(study), pooling).tasks[0]


def table_of(study: Study, results: Results, name: str) -> Table:
    return next(table for table in make_tables(task_of(study, results)) if table.name == name)


def texts(table: Table, source: str) -> list[str]:
    index = [column.source for column in table.columns].index(source)
    return [cell.text if isinstance(cell, Cell) else cell for cell in (row[index] for row in table.rows)]


def test_means_and_intervals_are_those_computed_by_hand(hand_made: tuple[Study, Results]) -> None:
    accuracy = table_of(*hand_made, "accuracy")
    # s = 2, 1, 0.5 points; t(0.975, 2) = 4.3027; half width = 4.3027 s / sqrt(3) = 4.97, 2.48, 1.24
    assert texts(accuracy, "test/prob_mean/accuracy") == ["82.0 ± 5.0 (3/3)", "86.0 ± 2.5 (3/3)", "85.0 ± 1.2 (3/3)"]
    assert texts(accuracy, "test/logit_mean/accuracy") == ["83.0 ± 5.0 (3/3)", "87.0 ± 2.5 (3/3)", "86.0 ± 1.2 (3/3)"]
    assert not any(row[1].best for row in accuracy.rows)  # the best by two points of the means, not by a test
    members = table_of(*hand_made, "members")
    assert texts(members, "test/prob_mean/gain") == ["5.0 ± 0.0 (3/3)"] * 3
    assert texts(members, "test/logit_mean/gain") == ["6.0 ± 0.0 (3/3)"] * 3
    relative = table_of(*hand_made, "costs_relative")
    assert texts(relative, "relative/costs/training_flops") == ["1.00 (3/3)", "1.02 (3/3)", "1.30 (3/3)"]


def test_a_cell_counts_the_runs_behind_it(hand_made: tuple[Study, Results]) -> None:
    study, results = hand_made
    runs = {(run.label, run.seed): run for run in expand(study)}
    results.write_row(failed_row(runs["mimo-2", 0], "loss is nan at step 3"))
    (results.run_dir(runs["mimo-2", 2].key) / "row.json").unlink()
    for seed in range(3):
        results.write_row(failed_row(runs["nfe-3", seed], "out of memory"))
    set_metrics(results, runs["single", 1], test__prob_mean__accuracy=float("nan"))
    accuracy = table_of(study, results, "accuracy")
    assert texts(accuracy, "test/prob_mean/accuracy") == ["82.0 ± 25.4 (2/3)", "86.0 (1/3)", "– (0/3)"]
    unfinished = table_of(study, results, "unfinished")
    assert [row[1:] for row in unfinished.rows if row[0] == "mimo-2"] == [
        ["0", "failed", "loss is nan at step 3"],
        ["2", "missing", "not run yet"],
    ]
    assert len(unfinished.rows) == 5
    assert "– | – |" in re.sub(" +", " ", summary_table(results, study))


def test_columns_without_any_number_are_left_out(hand_made: tuple[Study, Results]) -> None:
    names = [table.name for table in make_tables(task_of(*hand_made))]
    assert names == [
        "accuracy",
        "calibration_prob_mean",
        "members",
        "comparisons_accuracy",
        "comparisons_nll",
        "pareto_accuracy",
        "costs_counted",
        "costs_measured",
        "costs_relative",
        "comparability",
    ]
    assert [c.source for c in table_of(*hand_made, "calibration_prob_mean").columns] == ["method", "test/prob_mean/nll"]


def test_an_order_is_called_established_only_where_tests_say_so(hand_made: tuple[Study, Results]) -> None:
    study, results = hand_made
    finding = find(task_of(study, results))[0]
    assert finding.answer == "mimo-2"
    assert finding.caution == "Not shown to be better than nfe-3 and single: about 15 runs of each would decide it."
    assert find(task_of(study, results, "logit_mean"))[0].evidence.startswith(
        "87.0 ± 2.5 % (3/3), next nfe-3 with 86.0"
    )
    for run in expand(study):
        if run.label == "mimo-2":
            set_metrics(results, run, test__prob_mean__accuracy=0.95 + run.seed / 1000)
    assert find(task_of(study, results))[0].caution.startswith("Better than every other (Holm-adjusted p = 0.0")
    one_seed = study.model_copy(update={"seeds": [0]})
    caution = find(task_of(one_seed, results))[0].caution
    assert "One run each of it or of nfe-3 and single: the order is not established" in caution


def test_cheapest_is_an_ensemble_and_relative_to_single(hand_made: tuple[Study, Results]) -> None:
    training = next(f for f in find(task_of(*hand_made)) if f.about.startswith("Fewest training FLOPs"))
    assert training.answer == "mimo-2"
    pattern = r"training FLOPs 1\.02 × single \(3/3\); measured training time \d\.\d\d ± \d\.\d\d × single \(3/3\)"
    assert re.fullmatch(pattern, training.evidence)


def test_deviations_from_the_recipe_are_marked(tmp_path: Path) -> None:
    study = small_study(["single", {"method": "single", "recipe": {"epochs": 30}}], seeds=1)
    accuracy = table_of(study, simulate(tmp_path, study, images=30), "accuracy")
    assert accuracy.rows[0][0] == "single"
    assert accuracy.rows[1][0] == "single recipe.epochs=30 †"
    assert accuracy.notes == ["† single recipe.epochs=30 deviates from the study's recipe: epochs = 30."]


def test_several_tasks_have_tables_and_plots_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PLOTS", [plots.members_against_ensemble, plots.reliability])
    tasks = [small_task(), small_task(train_images=500), small_task(dataset="cifar10")]
    study = small_study(["single", {"method": "mimo", "num_members": 2}], seeds=1, tasks=tasks)
    results = simulate(tmp_path, study, images=30, with_examples=False, with_validation=False)
    folder = write_report(results, study)
    names = [
        "cifar10-wideresnet10x1",
        "digits-wideresnet10x1-train_images=500",
        "digits-wideresnet10x1-train_images=None",
    ]
    assert sorted(path.stem for path in (folder / "tables").glob("accuracy-*.csv")) == [f"accuracy-{n}" for n in names]
    assert len(list((folder / "plots").glob("members_against_ensemble-*"))) == 6
    assert not list((folder / "plots").glob("reliability*"))  # no example files
    assert not list((folder / "tables").glob("robustness*"))
    assert "(1/1)" in (folder / "report.md").read_text()
    assert "±" not in (folder / "tables" / f"accuracy-{names[0]}.md").read_text()
    assert "temperature" not in (folder / "tables" / f"calibration_prob_mean-{names[0]}.md").read_text()
    assert summary_table(results, study).count("| single") == 3


def test_csv_has_unrounded_numbers(full: tuple[Study, Results, Path]) -> None:
    study, results, folder = full
    values = [results.row(run.key)["metrics"]["test/logit_mean/nll"] for run in expand(study) if run.label == "single"]
    lines = list(csv.DictReader((folder / "tables" / "calibration_logit_mean.csv").open()))
    assert float(lines[0]["test_logit_mean_nll_mean"]) == pytest.approx(np.mean(values), rel=1e-15)
    half_width = 12.7062047 * np.std(values, ddof=1) / np.sqrt(2)
    assert float(lines[0]["test_logit_mean_nll_half_width"]) == pytest.approx(half_width, rel=1e-6)
    assert (lines[2]["test_logit_mean_nll_finished"], lines[2]["test_logit_mean_nll_planned"]) == ("1", "2")
    assert lines[2]["test_logit_mean_nll_half_width"] == ""


class Page(HTMLParser):
    """What stands in a page: tags, attributes, text of the cells per table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_one_file_that_runs_nothing_of_others(full: tuple[Study, Results, Path]) -> None:
    text = (full[2] / "report.html").read_text()
    page = Page(text)
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == len(list((full[2] / "plots").glob("*.png"))) >= 9
    assert "<script>alert(1)</script> & 50% _x_ $y$" in page.text  # seen as text
    assert not {"link", "iframe", "object", "base", "form", "input", "em"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "action", "poster"):
            assert value.startswith(("data:image/png;base64,", "#"))
        assert not name.startswith("on")
    assert not re.search(r"https?:|//\w|url\(|@import|fetch\(", re.sub(r"data:image/png;base64,[^\"]*", "", text))


def test_markdown_links_to_plots_that_exist(full: tuple[Study, Results, Path]) -> None:
    text = (full[2] / "report.md").read_text()
    links = re.findall(r"\]\((plots/[^)]*)\)", text)
    assert sorted(links) == sorted(f"plots/{path.name}" for path in (full[2] / "plots").glob("*.png"))
    assert all((full[2] / link).stat().st_size > 10_000 for link in links)
    assert "<script" not in text


def test_command_writes_the_same_bytes_and_imports_no_torch(full: tuple[Study, Results, Path]) -> None:
    study, results, folder = full
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in before:
        path.unlink()
    (folder / "tables" / "old.csv").write_text("of an earlier report")
    (folder / "notes.txt").write_text("of the user")
    code = (
        "import runpy, sys\ntry: runpy.run_module('benchmark.report', run_name='__main__')\n"
        "except SystemExit as e: sys.exit(e.code or 10 * ('torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, study.name, "--results", str(results.root)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "5"}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "notes.txt"}
    assert sorted(done.stdout.splitlines()) == sorted(str(path) for path in after)
    assert {path.name for path in before if after.get(path) != before[path]} == set()
    assert before.keys() == after.keys()
    assert (folder / "notes.txt").exists()


def test_two_reports_at_once_may_remove_the_same_old_file(
    hand_made: tuple[Study, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, results = hand_made
    monkeypatch.setattr(write, "_render", lambda *_: {})
    monkeypatch.setattr(write, "report_files", lambda folder: [folder / "tables" / "removed_meanwhile.csv"])
    write_report(results, study)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "holds no study 'nosuch'"),
        (["../x"], "unknown study '../x'"),
        (["a b"], "is no study's name"),
        (["none.yaml"], "can't be read"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "benchmark.report", *arguments, "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_finished_is_an_error_with_the_reason(tmp_path: Path) -> None:
    study, results = small_study(["single"], seeds=3), Results(tmp_path)
    results.write_study(study)
    for run in expand(study)[:2]:
        results.write_row(failed_row(run, "loss is nan at step 9"))
    with pytest.raises(UserError, match=r"0 of 3 planned runs finished; 2 failed, 1 missing; .*loss is nan at step 9"):
        write_report(results, study)
    assert not (results.study_dir(study.name) / "report").exists()
    assert "– " in summary_table(results, study)


def test_folder_that_cannot_be_written_is_an_error(
    hand_made: tuple[Study, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "PLOTS", [])
    study, results = hand_made
    (results.study_dir(study.name) / "report").write_text("a file in its place")
    with pytest.raises(UserError, match="report can't be written"):
        write_report(results, study)
    assert (results.study_dir(study.name) / "report").read_text() == "a file in its place"


def test_hostile_study_survives_the_summary(tmp_path: Path) -> None:
    study, results = hostile_study(tmp_path)
    lines = summary_table(results, study).splitlines()[:5]
    assert len({len(line) for line in lines}) == 1
