"""States that are whole and yet not this stage's, or not this version's: set aside, and the run ends as ever."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import checkpoint
from benchmark.config import Run, expand
from benchmark.data.sources import Location
from benchmark.machine import Machine
from benchmark.progress import Reporter
from benchmark.run import execute, resolved_study
from benchmark.store import Results
from benchmark.trainer import Stopped

STEPS = 6
"""Of each of two members."""


@pytest.fixture
def run(tiny_study: Callable[..., Path]) -> Run:
    methods = [{"method": "deep_ensemble", "num_members": 2}]
    task = {"train_images": 80, "validation_images": 20, "test_images": 20}
    return expand(resolved_study(str(tiny_study(methods=methods, task=task, recipe={"epochs": 3}))))[0]


def train(run: Run, results: Results, steps: int = 10**6) -> Any:
    """All metrics, or None where it was stopped after so many steps."""
    left = iter(range(steps - 1))
    reporter = Reporter(results.run_dir(run.key), lambda: next(left, None) is None)
    try:
        return execute(run, results, Machine(Location(), "cpu"), reporter)["metrics"]
    except Stopped:
        return None


def state_of(path: Path) -> dict[str, Any]:
    payload = path.read_bytes()[len(checkpoint.MAGIC) + checkpoint.DIGEST_BYTES :]
    state = torch.load(io.BytesIO(payload), weights_only=True)
    assert isinstance(state, dict)
    return state


def lacks_step(state: dict[str, Any]) -> None:
    del state["step"]


def lacks_buffer(state: dict[str, Any]) -> None:
    del state["network"]["stem.weight"]


def other_shape(state: dict[str, Any]) -> None:
    state["network"]["stem.weight"] = state["network"]["stem.weight"][:, :, :1]


def other_ledger(state: dict[str, Any]) -> None:
    state["ledger"]["watts"] = 1.0


def no_number(state: dict[str, Any]) -> None:
    state["ledger"]["images_seen"] = "many"


def other_groups(state: dict[str, Any]) -> None:
    state["optimizer"]["param_groups"][0].pop("learning_rate_multiplier")


@pytest.mark.parametrize("change", [lacks_step, lacks_buffer, other_shape, other_ledger, no_number, other_groups])
def test_a_state_of_another_version_is_set_aside(
    change: Callable[[dict[str, Any]], None], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, stopped = Results(tmp_path / "alone"), Results(tmp_path / "stopped")
    assert train(run, stopped, STEPS + 2) is None
    path = stopped.run_dir(run.key) / "checkpoint.state"
    state = state_of(path)
    assert (state["stage"], state["step"]) == ("member-1", 2)
    change(state)
    checkpoint.save(path, state)
    assert train(run, stopped) == train(run, alone)
    assert "checkpoint.state: is not what this version saves; set aside" in capsys.readouterr().err


def test_weights_of_another_member_are_set_aside(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(tmp_path / "results")
    expected = train(run, results)
    folder = results.run_dir(run.key)
    (folder / "row.json").unlink()
    (folder / "weights" / "member-0.state").write_bytes((folder / "weights" / "member-1.state").read_bytes())
    assert train(run, results) == expected
    assert "member-0.state: is not what this version saves; set aside" in capsys.readouterr().err


def test_weights_that_do_not_name_their_stage_are_taken(run: Run, tmp_path: Path) -> None:
    """As they were saved before."""
    results = Results(tmp_path / "results")
    expected = train(run, results)
    folder = results.run_dir(run.key)
    (folder / "row.json").unlink()
    path = folder / "weights" / "member-0.state"
    state = state_of(path)
    assert state.pop("stage") == "member-0"
    checkpoint.save(path, state)
    assert train(run, results) == expected
    assert not path.with_name("member-0.state.damaged").exists()
