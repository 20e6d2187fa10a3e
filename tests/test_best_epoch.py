"""Watching test accuracy epoch by epoch says what choosing the best would gain, and changes nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.config import expand
from benchmark.data.sources import Location
from benchmark.machine import Machine
from benchmark.metrics.best_epoch import best_epoch_gains
from benchmark.metrics.pooling import POOLINGS
from benchmark.progress import Reporter
from benchmark.run import execute, resolved_study
from benchmark.store import Results

Study = Callable[..., Path]


def trained(tiny_study: Study, root: Path, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Row and history."""
    [run] = expand(resolved_study(str(tiny_study(**changes))))
    results = Results(root)
    machine = Machine(Location(offline=True), device="cpu", threads=1)
    row = execute(run, results, machine, Reporter(results.run_dir(run.key), lambda: False))
    history = (results.run_dir(run.key) / "history.jsonl").read_text().splitlines()
    return row, [json.loads(line) for line in history]


@pytest.mark.parametrize("method", ["single", {"method": "deep_ensemble", "num_members": 2}])
def test_the_gain_is_the_best_epochs_accuracy_minus_the_last_ones(
    method: Any, tiny_study: Study, tmp_path: Path
) -> None:
    recipe = {"epochs": 5, "learning_rate": 0.2}
    row, history = trained(tiny_study, tmp_path, methods=[method], task={"watch_test": True}, recipe=recipe)
    last_stage = history[-5:]
    assert [entry["epoch"] for entry in last_stage] == [1, 2, 3, 4, 5]
    for pooling in POOLINGS:
        accuracies = [entry[f"test/{pooling}/accuracy"] for entry in last_stage]
        assert accuracies[-1] == row["metrics"][f"test/{pooling}/accuracy"], "the model is that of the last epoch"
        gain = row["metrics"][f"test/{pooling}/best_epoch_gain"]
        assert gain == max(accuracies) - accuracies[-1]
        assert 0 <= gain < 1


def test_watching_changes_no_other_number(tiny_study: Study, tmp_path: Path) -> None:
    (watched, _), (alone, history) = (
        trained(tiny_study, tmp_path / str(watch), task={"watch_test": watch}) for watch in (True, False)
    )
    assert watched["key"] != alone["key"]
    kept = {name: value for name, value in watched["metrics"].items() if not name.endswith("best_epoch_gain")}
    assert kept == alone["metrics"]
    assert watched["costs"] == alone["costs"]
    assert not [name for entry in history for name in entry if name.startswith("test/")]


def test_only_the_last_stages_epochs_count() -> None:
    history = [
        {"stage": "parent", "test/prob_mean/accuracy": 0.9},
        {"stage": "child-0", "test/prob_mean/accuracy": 0.7},
        {"stage": "child-0", "test/prob_mean/accuracy": 0.5},
    ]
    assert best_epoch_gains(history) == {"test/prob_mean/best_epoch_gain": pytest.approx(0.2)}
    assert best_epoch_gains([{"stage": "main"}]) == {}


def test_a_row_says_how_long_each_stage_trained(tiny_study: Study, tmp_path: Path) -> None:
    method = {"method": "deep_ensemble", "num_members": 2}
    recipe = {"epochs": 4, "budget": "training_flops"}
    row, _ = trained(tiny_study, tmp_path, methods=[method], recipe=recipe)
    assert row["stages"] == [{"name": f"member-{m}", "epochs": 2.0, "steps": 12} for m in range(2)]
    assert row["costs"]["rows_seen"] == row["costs"]["images_seen"] == 2 * 12 * 32
