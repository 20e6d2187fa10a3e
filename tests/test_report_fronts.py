"""Probabilities of being on a Pareto front, where the answer is plain."""

from pathlib import Path

import pytest
from simulated_study import done_row, small_study

from benchmark.config import expand
from benchmark.report.fronts import fronts
from benchmark.report.gather import TaskResults, gather
from benchmark.report.table import Cell, Table
from benchmark.store import Results

ACCURACY = {"single": 0.80, "mimo-2": 0.75, "nfe-3": 0.84, "deep_ensemble-3": 0.84}
SPEED = {"single": 9000.0, "mimo-2": 8800.0, "nfe-3": 5000.0, "deep_ensemble-3": 3000.0}


def task_of(root: Path, seeds: int) -> TaskResults:
    """MIMO is worse than the single network and dearer; NFE and the deep ensemble are equally good at unlike prices."""
    entries = ["single", *({"method": m, "num_members": n} for m, n in (("mimo", 2), ("nfe", 3), ("deep_ensemble", 3)))]
    study, results = small_study(entries, seeds=seeds), Results(root)
    for run in expand(study):
        row = done_row(run, {"test/prob_mean/accuracy": ACCURACY[run.label] + (run.seed - 1.5) / 1000})
        row["measured"]["throughput_batch256"] = SPEED[run.label] + run.seed
        results.write_row(row)
    return gather(results, study, results.rows(study)).tasks[0]


def chances(table: Table, source: str) -> dict[str, str]:
    index = [column.source for column in table.columns].index(source)
    return {str(row[0]): cell.text for row in table.rows if isinstance(cell := row[index], Cell)}


@pytest.mark.parametrize("source", ["front/costs/training_flops", "front/measured/throughput_batch256"])
def test_what_is_worse_and_dearer_is_never_on_the_front(tmp_path: Path, source: str) -> None:
    table = fronts(task_of(tmp_path, seeds=4), "accuracy")
    assert table is not None
    found = chances(table, source)
    assert (found["single"], found["mimo-2"]) == ("1.00", "0.00")
    assert float(found["nfe-3"]) > 0.99  # cheaper than what is equally good
    assert 0.3 < float(found["deep_ensemble-3"]) < 0.7  # dearer: on the front where it is better by chance


def test_one_run_each_has_no_front(tmp_path: Path) -> None:
    assert fronts(task_of(tmp_path, seeds=1), "accuracy") is None
