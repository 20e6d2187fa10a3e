"""Runs on this machine within a time limit: what is started, in which order, and what is left out."""

import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from simulated_study import done_row, small_study

from benchmark.config import Run, Study, expand
from benchmark.data.sources import Location
from benchmark.here import START_SECONDS_HERE, describe_end, expected_seconds
from benchmark.machine import Machine
from benchmark.progress import Progress, Reporter
from benchmark.run import device_name, resolved_study
from benchmark.store import Results
from benchmark.workers import Pool, _start_forkserver

MACHINE = Machine(Location(offline=True), device="cpu", threads=1)
STUDY = small_study(methods=["single", {"method": "mimo", "num_members": 2}])


def pool_of(results: Results, minutes: float, seconds_left_of: Callable[[Run], float | None], **options: Any) -> Pool:
    deadline = time.monotonic() + 60 * minutes
    return Pool(results, MACHINE, 1, 0, deadline=deadline, seconds_left_of=seconds_left_of, **options)


def write_row(results: Results, run: Run, seconds: float, flops: float = 1e12) -> None:
    row = done_row(run, {"accuracy": 0.5})
    device = {"device": device_name(torch.device("cpu"))}
    costs, environment = row["costs"] | {"training_flops": flops}, row["environment"] | device
    results.write_row(row | {"costs": costs, "measured": {"train_seconds": seconds}, "environment": environment})


def test_what_cannot_end_in_time_is_not_started_and_what_can_keeps_its_turn(
    tiny_study: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_study(methods=["single", "mimo"], seeds=[0, 1], recipe={"epochs": 1})
    runs, results = expand(resolved_study(str(path))), Results(tmp_path / "results")
    started: list[str] = []
    pool = pool_of(results, 2, lambda run: 121.0 if run.method == "mimo" and run.seed == 0 else 1.0)
    pool.on_start = lambda run: started.append(run.key)
    pool.carry_out(runs)
    assert pool.stopped_by is None
    assert [run for run, _ in pool.left_out] == [runs[1]]
    assert started == [run.key for run in runs if run is not runs[1]]
    assert all(results.row(key) for key in started)
    assert not results.run_dir(runs[1].key).exists()


def test_a_run_of_which_nothing_is_known_is_started(tiny_study: Callable[..., Path], tmp_path: Path) -> None:
    [run] = expand(resolved_study(str(tiny_study(recipe={"epochs": 1}))))
    pool = pool_of(Results(tmp_path / "results"), 2, lambda _: None)
    assert [outcome.state for outcome in pool.carry_out([run])] == ["done"]
    assert not pool.left_out


@pytest.fixture
def study_and_results(tmp_path: Path) -> tuple[Study, Results]:
    results = Results(tmp_path / "results")
    results.write_study(STUDY)
    return STUDY, results


def test_a_run_that_is_asked_to_stop_before_it_listens_stops(tiny_study: Callable[..., Path], tmp_path: Path) -> None:
    [run] = expand(resolved_study(str(tiny_study())))
    pool = pool_of(Results(tmp_path / "results"), 2, lambda _: None)
    pool.on_start = lambda _: pool._workers[-1].ask_to_stop()
    assert [outcome.state for outcome in pool.carry_out([run])] == ["stopped"]


def test_a_signal_that_comes_while_the_fork_server_is_started_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[int] = []
    previous = signal.signal(signal.SIGUSR2, lambda number, _: came.append(number))
    monkeypatch.setattr(multiprocessing.forkserver, "ensure_running", lambda: os.kill(os.getpid(), signal.SIGUSR2))
    try:
        _start_forkserver()
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert came == [signal.SIGUSR2]


def test_rows_that_come_in_meanwhile_tell_how_long_a_run_takes(study_and_results: tuple[Study, Results]) -> None:
    study, results = study_and_results
    single, mimo, other_single, _ = expand(study)
    seconds_left_of = expected_seconds(study, results, MACHINE)
    assert seconds_left_of(other_single) is None
    write_row(results, single, 40.0)
    assert seconds_left_of(other_single) == START_SECONDS_HERE + 40
    by_flops = seconds_left_of(mimo)
    assert by_flops is not None
    assert by_flops > START_SECONDS_HERE
    write_row(results, mimo, 100.0)
    assert seconds_left_of(mimo) == START_SECONDS_HERE + 100


def test_an_interrupted_run_takes_what_is_left_of_it_if_its_state_was_saved(
    study_and_results: tuple[Study, Results],
) -> None:
    study, results = study_and_results
    single, _, other_single, _ = expand(study)
    write_row(results, single, 40.0)
    folder = results.run_dir(other_single.key)
    folder.mkdir(parents=True)
    said = Progress("main", 3, 4, 0.75, 1.0, None, 100.0, 10.0, False)
    Reporter(folder, lambda: False).progress(said)
    seconds_left_of = expected_seconds(study, results, MACHINE)
    assert seconds_left_of(other_single) == START_SECONDS_HERE + 40
    (folder / "checkpoint.state").write_bytes(b"saved")
    assert seconds_left_of(other_single) == START_SECONDS_HERE + 10


def test_a_limit_says_what_it_left_and_how_long_that_takes(tmp_path: Path) -> None:
    pool = pool_of(Results(tmp_path), 1, lambda _: None)
    assert describe_end(pool, 9) == ""
    pool.left_out = [(run, seconds) for run, seconds in zip(expand(STUDY), (700.0, 620.0), strict=False)]
    assert describe_end(pool, 9).startswith("2 runs left out, of about 10:20 or more each")
    assert "could not end in time (--time-limit 9); the same command goes on" in describe_end(pool, 9)
    pool.stopped_by = 0
    assert describe_end(pool, 9) == "stopped after 9 minutes; the same command goes on"


def test_a_sweep_with_a_limit_leaves_what_its_rows_say_is_too_long(
    tiny_study: Callable[..., Path], tmp_path: Path
) -> None:
    path, results = tiny_study(seeds=[0, 1]), Results(tmp_path / "results")
    known, long = expand(resolved_study(str(path)))

    def sweep(study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "benchmark.sweep",
            str(study),
            "--results",
            str(results.root),
            "--threads",
            "1",
        ]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    assert sweep(tiny_study("first", seeds=[0])).returncode == 0
    row = results.row(known.key)
    assert row is not None
    results.write_row(row | {"measured": row["measured"] | {"train_seconds": 1000.0}})
    limited = sweep(path, "--time-limit", "1")
    assert limited.returncode == 1
    assert "1 run left out, of about 16:4" in limited.stderr
    assert results.row(long.key) is None
    assert sweep(path).returncode == 0
    assert results.row(long.key) is not None
