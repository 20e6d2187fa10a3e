"""Comparisons, deep-ensemble equivalents and the summary's sentences: said only as far as the runs carry it."""

from pathlib import Path

import numpy as np
import pytest
from simulated_study import done_row, small_study, small_task

from benchmark.config import Study, expand
from benchmark.report.comparisons import comparisons
from benchmark.report.equivalents import deep_ensembles, equivalents, equivalents_table
from benchmark.report.findings import find
from benchmark.report.gather import TaskResults, gather
from benchmark.report.table import Cell
from benchmark.store import Results

ENTRIES = [
    "single",
    *({"method": m, "num_members": n} for m, n in (("deep_ensemble", 4), ("deep_ensemble", 2), ("nfe", 2))),
]
NLL_OF_NETWORKS = {1: 0.60, 2: 0.50, 3: 0.47, 4: 0.46}
ACCURACY = {"single": 0.80, "deep_ensemble-4": 0.86, "deep_ensemble-2": 0.83, "nfe-2": 0.831}


@pytest.fixture
def study() -> Study:
    return small_study(ENTRIES, seeds=5)


def task_of(study: Study, root: Path, nfe_nll: float = 0.55, scatter: float = 0.001) -> TaskResults:
    """Five runs each; calibrated NLL of deep ensembles as above, that of nfe-2 as given."""
    results = Results(root)
    results.write_study(study)
    for run in expand(study):
        offset = scatter * (run.seed - 2)
        members = run.options.get("num_members", 1)
        nll = nfe_nll if run.method == "nfe" else NLL_OF_NETWORKS[members]
        metrics = {"test/prob_mean/nll_calibrated": nll + offset}
        metrics["test/prob_mean/accuracy"] = ACCURACY[run.label] + offset
        for size in range(1, members):
            metrics[f"first/{size}/prob_mean/nll_calibrated"] = NLL_OF_NETWORKS[size] + offset
        results.write_row(done_row(run, metrics))
    return gather(results, study, results.rows(study)).tasks[0]


def test_the_curve_of_deep_ensembles_takes_first_members_of_the_largest(study: Study, tmp_path: Path) -> None:
    curve = deep_ensembles(task_of(study, tmp_path), "prob_mean")
    assert list(curve) == [1, 2, 3, 4]
    assert {size: round(float(np.mean(values)), 9) for size, values in curve.items()} == NLL_OF_NETWORKS
    assert all(len(values) == 5 for values in curve.values())


def test_an_equivalent_lies_between_whole_numbers_and_ends_at_the_largest(study: Study, tmp_path: Path) -> None:
    found = equivalents(task_of(study, tmp_path))
    assert found["nfe-2"].size == pytest.approx(1.5, abs=1e-6)  # halfway from 0.60 to 0.50
    assert found["deep_ensemble-2"].size == pytest.approx(2, abs=1e-6)
    assert found["nfe-2"].low < 1.5 < found["nfe-2"].high
    best = equivalents(task_of(study, tmp_path, nfe_nll=0.40))["nfe-2"]
    assert best.text.startswith("> 4")
    assert equivalents(task_of(study, tmp_path, nfe_nll=0.70))["nfe-2"].text.startswith("< 1")


def test_without_deep_ensembles_there_is_no_equivalent(tmp_path: Path) -> None:
    task = task_of(small_study(["single", {"method": "nfe", "num_members": 2}], seeds=3), tmp_path)
    assert equivalents(task) == {}
    assert equivalents_table(task, "prob_mean") is None


def test_each_is_compared_with_single_and_with_the_deep_ensemble_of_its_size(study: Study, tmp_path: Path) -> None:
    table = comparisons(task_of(study, tmp_path), "accuracy")
    assert table is not None
    assert [(row[0], row[1]) for row in table.rows] == [
        ("deep_ensemble-4", "single"),
        ("deep_ensemble-2", "single"),
        ("nfe-2", "single"),
        ("nfe-2", "deep_ensemble-2"),
    ]
    verdicts = [row[[column.source for column in table.columns].index("verdict")] for row in table.rows]
    assert verdicts == ["better", "better", "better", "undecided"]
    difference = table.rows[3][2]
    assert isinstance(difference, Cell)
    assert difference.text.startswith("+0.1 ± 0.3")  # 2.776 · 0.158 · √(2 / 5) points
    assert difference.text.endswith("(5/5, 5/5)")
    assert "each" in str(table.rows[3][-1])


def test_a_lower_loss_is_called_better(study: Study, tmp_path: Path) -> None:
    table = comparisons(task_of(study, tmp_path), "nll_calibrated")
    assert table is not None
    verdicts = [row[[column.source for column in table.columns].index("verdict")] for row in table.rows]
    assert verdicts == ["better", "better", "better", "worse"]


def test_the_summary_says_what_is_established_and_what_would_decide(study: Study, tmp_path: Path) -> None:
    findings = {finding.about: finding for finding in find(task_of(study, tmp_path))}
    best = findings["Highest test accuracy"]
    assert best.answer == "deep_ensemble-4"
    assert best.caution == "Better than every other (Holm-adjusted p < 0.001)."
    assert findings["Worth the most independent networks"].answer == "nfe-2"
    front = findings["On the Pareto front of accuracy and training FLOPs"]
    assert "single" in front.answer
    close = find(task_of(study, tmp_path, scatter=0.03))[0]
    assert close.caution.startswith("Not shown to be better than ")
    assert "would decide it" in close.caution


def test_one_seed_establishes_nothing(tmp_path: Path) -> None:
    task = task_of(small_study(ENTRIES, seeds=1, tasks=[small_task()]), tmp_path)
    table = comparisons(task, "accuracy")
    assert table is not None
    assert {str(row[3]) for row in table.rows} == {"–"}
    assert find(task)[0].caution.startswith("One run each")


def test_what_reaches_no_single_network_is_not_called_the_best(study: Study, tmp_path: Path) -> None:
    findings = {finding.about: finding for finding in find(task_of(study, tmp_path, nfe_nll=0.70))}
    worth = findings["Worth the most independent networks"]
    assert worth.answer == "none"
    assert "nfe-2 < 1" in worth.evidence
