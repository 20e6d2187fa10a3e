"""Tables on standard output: selected metrics, methods, groups and formats; a budget; wrong input in one line."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_study import done_row, small_study, small_task

from benchmark.config import Study, expand
from benchmark.errors import UserError
from benchmark.report.budget import parse_budget, within_budget
from benchmark.report.gather import Gathered, gather
from benchmark.report.selection import as_text, selected_tables, with_methods
from benchmark.report.sources import source_of
from benchmark.report.table import Cell
from benchmark.store import Results

ACCURACIES = {"single": 0.80, "mimo-2": 0.84, "nfe-3": 0.85, "deep_ensemble-3": 0.88}
HOURS = {"single": 1.0, "mimo-2": 1.1, "nfe-3": 1.9, "deep_ensemble-3": 3.0}


@pytest.fixture
def study() -> Study:
    entries = ["single", *({"method": m, "num_members": n} for m, n in (("mimo", 2), ("nfe", 3), ("deep_ensemble", 3)))]
    return small_study(entries, seeds=4, tasks=[small_task(), small_task(train_images=500)])


@pytest.fixture
def results(study: Study, tmp_path: Path) -> Results:
    """Four runs of four methods on two tasks, accuracies half a point apart from run to run."""
    results = Results(tmp_path / "results")
    results.write_study(study)
    for run in expand(study):
        value = ACCURACIES[run.label] + (run.seed - 1.5) / 200 - (0.1 if run.task.train_images else 0)
        row = done_row(run, {"test/prob_mean/accuracy": value, "test/logit_mean/accuracy": value + 0.01})
        row["measured"]["train_seconds"] = 3600 * (HOURS[run.label] + (run.seed - 1.5) / 100)
        results.write_row(row)
    return results


def gathered_of(study: Study, results: Results) -> Gathered:
    return gather(results, study, results.rows(study))


def report(results: Results, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark.report", "simulated", "--results", str(results.root), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_short_name_stands_for_a_column_under_the_pooling() -> None:
    assert source_of("nll", "logit_mean") == "test/logit_mean/nll"
    assert source_of("shifted/3/accuracy", "prob_mean") == "shifted/3/prob_mean/accuracy"
    assert source_of("out_of_distribution/cifar10/auroc", "prob_mean") == "out_of_distribution/cifar10/prob_mean/auroc"
    assert source_of("relative/training_flops", "prob_mean") == "relative/costs/training_flops"
    assert source_of("member/nll", "prob_mean") == "test/member/nll"
    for name in ("test/logit_mean/ece", "costs/parameters", "relative/measured/train_seconds", "test/disagreement"):
        assert source_of(name, "prob_mean") == name
    for name in ("nlll", "shifted/6/nll", "member/auroc", "", "/", "relative/", "test/nll_mean/nll", "costs/nll"):
        with pytest.raises(UserError, match="unknown metric"):
            source_of(name, "prob_mean")


def test_one_table_per_task_has_the_metrics_asked_for(study: Study, results: Results) -> None:
    tables = selected_tables(gathered_of(study, results), ["accuracy", "training_flops"], "task", "logit_mean")
    assert [len(table.rows) for table in tables] == [4, 4]
    assert [column.source for column in tables[0].columns] == [
        "method",
        "test/logit_mean/accuracy",
        "costs/training_flops",
    ]
    assert isinstance(tables[0].rows[0][1], Cell)
    assert tables[0].rows[0][1].text.startswith("81.0 ± ")


def test_grouping_by_method_lists_the_tasks(study: Study, results: Results) -> None:
    tables = selected_tables(gathered_of(study, results), ["accuracy"], "method", "prob_mean")
    assert [table.title for table in tables] == list(ACCURACIES)
    assert tables[0].columns[0].header == "task"
    assert [row[0] for row in tables[0].rows] == [task.title for task in gathered_of(study, results).tasks]


def test_grouping_by_members_names_methods_and_tasks(study: Study, results: Results) -> None:
    tables = selected_tables(gathered_of(study, results), ["accuracy"], "num_members", "prob_mean")
    assert [table.title for table in tables] == ["single network", "2 members", "3 members"]
    assert [str(row[0]).partition(",")[0] for row in tables[2].rows] == ["nfe-3", "deep_ensemble-3"] * 2


def test_only_the_best_of_a_task_by_a_test_is_bold(study: Study, results: Results) -> None:
    table = selected_tables(gathered_of(study, results), ["accuracy"], "task", "prob_mean")[0]
    assert [cell.best for row in table.rows for cell in row if isinstance(cell, Cell)] == [False, False, False, True]
    for run in expand(study):  # now nfe-3 is as good but for a hundredth of a point
        if run.label == "nfe-3":
            results.write_row(done_row(run, {"test/prob_mean/accuracy": 0.8799 + (run.seed - 1.5) / 200}))
    table = selected_tables(gathered_of(study, results), ["accuracy"], "task", "prob_mean")[0]
    assert not any(cell.best for row in table.rows for cell in row if isinstance(cell, Cell))


def test_methods_are_chosen_by_label_or_name(study: Study, results: Results) -> None:
    chosen = with_methods(gathered_of(study, results), ["nfe", "single"])
    assert [[entry.label for entry in task.entries] for task in chosen.tasks] == [["single", "nfe-3"]] * 2
    assert set(chosen.runs["label"]) == {"single", "nfe-3"}
    with pytest.raises(UserError, match="did you mean 'nfe-3'"):
        with_methods(chosen, ["nfe-4"])


def test_relative_costs_stay_relative_to_a_single_network_not_chosen(study: Study, results: Results) -> None:
    chosen = with_methods(gathered_of(study, results), ["nfe"])
    table = selected_tables(chosen, ["relative/training_flops"], "task", "prob_mean")[0]
    assert isinstance(table.rows[0][1], Cell)
    assert table.rows[0][1].text == "1.30 (4/4)"


def test_formats_read_back(study: Study, results: Results) -> None:
    tables = selected_tables(gathered_of(study, results), ["accuracy"], "task", "prob_mean")
    lines = list(csv.DictReader(io.StringIO(as_text(tables[:1], "csv", "simulated"))))
    assert [line["method"] for line in lines] == list(ACCURACIES)
    assert float(lines[0]["test_prob_mean_accuracy_mean"]) == pytest.approx(0.80)
    both = as_text(tables, "latex", "simulated")
    assert both.count("\\toprule") == 2
    assert both.count("\\label{tab:simulated-selected}") == 1
    assert as_text(tables, "markdown", "simulated").count("| single") == 2


def test_a_budget_ranks_what_fits_and_says_why_the_rest_does_not(study: Study, results: Results) -> None:
    task = gathered_of(study, results).tasks[0]
    table = within_budget(task, parse_budget("train_hours=2, parameters=1e6"), "test/prob_mean/accuracy")
    assert [row[0] for row in table.rows] == ["nfe-3", "mimo-2", "single"]
    chances = [float(str(row[2])) for row in table.rows]
    assert sum(chances) == pytest.approx(1, abs=0.02)
    assert chances[0] > 0.8
    assert table.notes == ["Left out: deep_ensemble-3: train_hours 3."]
    hours = table.rows[0][3]
    assert isinstance(hours, Cell)
    assert hours.text.startswith("1.90 ± ")
    nothing = within_budget(task, parse_budget("throughput=1e9"), "test/prob_mean/accuracy")
    assert nothing.rows == []
    assert nothing.notes[0] == "Nothing fits."


@pytest.mark.parametrize("text", ["", "train_hours", "train_hours=", "train_hours=-1", "train_hours=nan", "hours=1"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--budget"):
        parse_budget(text)
    with pytest.raises(UserError, match="twice"):
        parse_budget("train_hours=1,train_hours=2")


def test_questions_print_and_write_no_report(results: Results) -> None:
    for options in (
        ["--metric", "accuracy"],
        ["--format", "csv"],
        ["--methods", "nfe"],
        ["--budget", "train_hours=2"],
        ["--claim", "nfe-3 > single : accuracy"],
    ):
        done = report(results, *options)
        assert (done.returncode, done.stderr) == (0, ""), options
        assert "nfe-3" in done.stdout
    assert not (results.root / "simulated" / "report").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "nlll"], "unknown metric 'nlll', did you mean 'nll'?"),
        (["--metric", "disagreement"], "no run of simulated has test/disagreement"),
        (["--metric", ","], "--metric needs at least one name"),
        (["--methods", "nfe-4"], "--methods: unknown method 'nfe-4'"),
        (["--budget", "hours=4"], "--budget: unknown cost 'hours'"),
        (["--budget", "train_hours=2", "--metric", "nll,ece"], "--budget ranks by one metric"),
        (["--claims", "--metric", "nll"], "a claim names its own"),
        (["--claim", "nfe-3 better than single"], "nfe-3 better than single"),
        (["--claim", "nfe-9 > single : accuracy"], "nfe-9"),
        (["--claim", "nfe-3 > single : acuracy"], "acuracy"),
    ],
)
def test_wrong_input_gets_one_line(results: Results, options: list[str], said: str) -> None:
    done = report(results, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
