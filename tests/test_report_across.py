"""What several tasks say together, against values computed by hand."""

from pathlib import Path

import pytest
from simulated_study import done_row, failed_row, small_study, small_task

from benchmark.config import Study, expand
from benchmark.report.across import improvements, interquartile_means, make_tables_across
from benchmark.report.gather import Gathered, gather
from benchmark.report.table import Cell
from benchmark.store import Results

ACCURACIES = {
    ("single", None): [0.80, 0.82], ("single", 500): [0.60, 0.62],
    ("nfe-3", None): [0.83, 0.85], ("nfe-3", 500): [0.61, 0.63],
}  # fmt: skip
"""By label and training images, one for each seed."""


@pytest.fixture
def study() -> Study:
    tasks = [small_task(), small_task(train_images=500)]
    return small_study(["single", {"method": "nfe", "num_members": 3}], seeds=2, tasks=tasks)


def write_rows(study: Study, root: Path) -> Results:
    results = Results(root)
    results.write_study(study)
    for run in expand(study):
        value = ACCURACIES[run.label, run.task.train_images][run.seed]
        results.write_row(done_row(run, {"test/prob_mean/accuracy": value}))
    return results


def gathered_of(study: Study, results: Results) -> Gathered:
    return gather(results, study, results.rows(study))


def test_interquartile_means_leave_out_a_quarter_at_either_end(study: Study, tmp_path: Path) -> None:
    table = interquartile_means(gathered_of(study, write_rows(study, tmp_path)))
    assert [row[0] for row in table.rows] == ["single", "nfe-3"]
    cells = [row[1] for row in table.rows]
    assert all(isinstance(cell, Cell) for cell in cells)
    # Of four values the middle two: (62 + 80) / 2 and (63 + 83) / 2.
    assert [cell.text.split()[0] for cell in cells if isinstance(cell, Cell)] == ["71.0", "73.0"]
    assert all(cell.text.endswith("(4/4)") for cell in cells if isinstance(cell, Cell))


def test_improvement_is_the_share_of_pairs_won(study: Study, tmp_path: Path) -> None:
    table = improvements(gathered_of(study, write_rows(study, tmp_path)), "accuracy")
    assert table is not None
    assert [row[:2] for row in table.rows] == [["nfe-3", "single"]]
    cell = table.rows[0][2]
    assert isinstance(cell, Cell)
    assert cell.estimate is not None
    assert cell.estimate.mean == (1 + 3 / 4) / 2  # all four pairs, then three of four


def test_entries_without_a_run_on_some_task_are_named(study: Study, tmp_path: Path) -> None:
    results = write_rows(study, tmp_path)
    for run in expand(study):
        if run.label == "nfe-3" and run.task.train_images:
            results.write_row(failed_row(run, "out of memory"))
    table = interquartile_means(gathered_of(study, results))
    assert [row[0] for row in table.rows] == ["single"]
    assert table.notes == ["Left out, without a run on some task: nfe-3."]
    assert improvements(gathered_of(study, results), "accuracy") is None


def test_one_task_has_nothing_across(study: Study, tmp_path: Path) -> None:
    alone = study.model_copy(update={"tasks": study.tasks[:1]})
    assert make_tables_across(gathered_of(alone, write_rows(alone, tmp_path))) == []
    names = [table.name for table in make_tables_across(gathered_of(study, write_rows(study, tmp_path)))]
    assert names == ["interquartile_means", "improvements_accuracy"]
