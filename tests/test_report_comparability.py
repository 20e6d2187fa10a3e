"""What decides comparability: a table of its own, and a note under every table whose entries differ in it."""

from pathlib import Path
from typing import Any

import pytest
from simulated_study import done_row, small_study, small_task

from benchmark.config import Study, expand
from benchmark.report.gather import TaskResults, gather
from benchmark.report.quantities import NONE
from benchmark.report.table import Cell, Table
from benchmark.report.tables import make_tables
from benchmark.store import Results

COSTS: dict[str, dict[str, float]] = {
    "single": {"rows_seen": 1000, "member_loss_weight": 1.0, "undecayed_parameters": 0},
    "batch_ensemble-4": {"rows_seen": 4000, "member_loss_weight": 0.25, "undecayed_parameters": 6212},
    "mimo-2": {"rows_seen": 4000, "member_loss_weight": 1.0, "undecayed_parameters": 0},
    "nfe-3": {"rows_seen": 1000, "member_loss_weight": 1.0, "undecayed_parameters": 0},
}
MEMBERS = {"single": 1, "batch_ensemble-4": 4, "mimo-2": 2, "nfe-3": 3}


def results_of(tmp_path: Path, entries: list[Any] | None = None, with_costs: bool = True, **task: Any) -> TaskResults:
    members = [{"method": label.partition("-")[0], "num_members": n} for label, n in MEMBERS.items() if n > 1]
    study: Study = small_study(entries or ["single", *members], seeds=2, tasks=[small_task(**task)])
    results = Results(tmp_path)
    for run in expand(study):
        row = done_row(run, {"test/prob_mean/accuracy": 0.9})
        if with_costs:
            label = run.label.partition(" ")[0]
            row["costs"] |= COSTS.get(label, COSTS["single"]) | {"network_flops": 10_485_760_000}
        results.write_row(row)
    return gather(results, study, results.rows(study)).tasks[0]


def table_of(task: TaskResults, name: str) -> Table:
    return next(table for table in make_tables(task) if table.name == name)


def column(task: TaskResults, header: str) -> list[str]:
    table = table_of(task, "comparability")
    index = [column.header for column in table.columns].index(header)
    return [str(row[index]) for row in table.rows]


def test_rows_seen_are_relative_to_the_single_network(tmp_path: Path) -> None:
    assert column(results_of(tmp_path), "rows seen (× single)") == ["1.00", "4.00", "4.00", "1.00"]


def test_the_reduction_of_member_losses_is_the_measured_one(tmp_path: Path) -> None:
    assert column(results_of(tmp_path), "reduction of member losses") == [NONE, "mean", "sum", "sum"]


def test_weight_decay_says_what_it_leaves_alone(tmp_path: Path) -> None:
    decays = column(results_of(tmp_path), "weight decay, PyTorch's unit")
    assert decays[:2] == ["0.0005 on all parameters", "0.0005 on all but 6,212 parameters"]


def test_networks_of_one_name_are_told_apart_by_multiply_adds_and_momentum(tmp_path: Path) -> None:
    port = {"name": "wide_resnet", "depth": 10, "width": 1, "last_norm_momentum": 0.9}
    task = results_of(tmp_path, network=port)
    assert column(task, "network (multiply-adds)")[0] == "wideresnet10x1 (5.243 G)"
    assert column(task, "batch-norm momentum")[0] == "0.1, last 0.9"


def test_test_images_and_corruptions_are_counted(tmp_path: Path) -> None:
    task = results_of(tmp_path, test_images=60, shifted={"kinds": ["contrast"], "severities": [1, 5]})
    assert column(task, "test images") == ["60 of 500"] * 4
    assert column(task, "corruptions") == ["1 kinds × 2 severities, mean over cells"] * 4
    assert column(results_of(tmp_path / "all"), "test images") == ["all 500"] * 4


def test_every_table_of_entries_says_what_differs_within_it(tmp_path: Path) -> None:
    task = results_of(tmp_path)
    note = (
        "What decides comparability differs here: rows seen (× single): 1.00 to 4.00; weight decay, PyTorch's unit: "
        "0.0005 on all parameters / 0.0005 on all but 6,212 parameters; reduction of member losses: mean / sum."
    )
    of_entries = [table for table in make_tables(task) if any(isinstance(cell, Cell) for cell in table.rows[0])]
    noted = [table.name for table in of_entries if note in table.notes]
    assert {"accuracy", "costs_counted", "costs_measured", "costs_relative"} <= set(noted)


@pytest.mark.parametrize("deviation", [{"weight_decay": 1e-4}, {"augmentation": {"crop_padding": 2}}])
def test_a_deviation_in_it_is_noted(deviation: dict[str, Any], tmp_path: Path) -> None:
    entries = ["single", {"method": "single", "recipe": deviation}]
    [*_, note] = table_of(results_of(tmp_path, entries, with_costs=False), "accuracy").notes
    assert ("0.0001 to 0.0005" if "weight_decay" in deviation else "4 px / 2 px") in note


def test_entries_that_agree_have_no_note(tmp_path: Path) -> None:
    entries = ["single", {"method": "nfe", "num_members": 3}]
    assert table_of(results_of(tmp_path, entries), "accuracy").notes == []


def test_what_no_row_says_is_a_dash_and_no_difference(tmp_path: Path) -> None:
    task = results_of(tmp_path, with_costs=False)
    assert column(task, "rows seen (× single)") == [NONE] * 4
    assert column(task, "reduction of member losses") == [NONE] * 4
    assert table_of(task, "accuracy").notes == []
