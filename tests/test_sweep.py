"""Sweeps as their users meet them: commands in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_temporary import killed_while_writing

from benchmark.config import expand
from benchmark.lock import claim, look
from benchmark.run import planned, resolved_study
from benchmark.store import Results

Study = Callable[..., Path]
DIVERGES = {"learning_rate": 1e30, "schedule": {"name": "constant"}}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """For $TMPDIR: tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def command(*arguments: object, module: str = "benchmark.sweep", **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def sweep(study: Path, results: Path, *arguments: object) -> tuple[int, str, str]:
    return finished(command(study, "--results", results, "--threads", 1, *arguments))


def runs_in(results: Path) -> list[Path]:
    return sorted(path for path in (results / "runs").iterdir() if path.is_dir())


def rows_of(results: Path, study: str = "tiny") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (results / study / "rows.jsonl").read_text().splitlines()]


def times_trained(run: Path) -> int:
    """How often a run went through its last epoch, by its log."""
    return (run / "log").read_text().count("main epoch 2/2")


def test_sweep_trains_everything_once_and_ends_with_table_and_report(tiny_study: Study, tmp_path: Path) -> None:
    study, results = tiny_study(methods=["single", "nfe"], seeds=[0, 1]), tmp_path / "results"
    run = Path("runs", expand(resolved_study(str(study)))[0].key)
    for place in (run / "row.json", run / "weights/main.state", "tiny/rows.jsonl", "tiny/report/tables/nll.md"):
        assert killed_while_writing(results / place).exists()
    code, out, err = sweep(study, results, "--workers", 2)
    assert code == 0, err
    assert "nfe-3" in out
    assert (results / "tiny/report/report.html").is_file()
    assert [row["status"] for row in rows_of(results)] == ["done"] * 4
    assert len(list((results / "tiny/examples").iterdir())) == 4
    assert not [path for path in results.rglob("*") if path.name.endswith(".tmp")]

    before = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/row.json")}
    code, again, err = sweep(study, results)
    assert code == 0, err
    assert again == out
    assert "4 runs, 4 there already, 0 to do" in err
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/*/row.json")} == before


def test_rows_collected_earlier_count_as_finished(tiny_study: Study, tmp_path: Path) -> None:
    """What is committed is a study's rows and example files; its run folders stay on the machine that trained them."""
    study, results = tiny_study(), tmp_path / "results"
    assert sweep(study, results)[0] == 0
    for run in runs_in(results):
        for file in sorted(run.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        run.rmdir()
    code, out, err = sweep(study, results)
    assert code == 0, err
    assert "1 there already, 0 to do" in err
    assert "single" in out


def test_two_sweeps_at_once_train_each_run_once(tiny_study: Study, tmp_path: Path) -> None:
    study, results = tiny_study(methods=["single", "nfe"], seeds=[0, 1, 2]), tmp_path / "results"
    both = [command(study, "--results", results, "--threads", 1) for _ in range(2)]
    ends = [finished(process) for process in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert [times_trained(run) for run in runs_in(results)] == [1] * 6
    assert ends[0][1].splitlines()[0] == ends[1][1].splitlines()[0]


def test_diverging_run_fails_at_once_and_is_retried_only_when_asked(tiny_study: Study, tmp_path: Path) -> None:
    diverging = {"method": "nfe", "num_members": 2, "recipe": DIVERGES}
    study, results = tiny_study(methods=["single", diverging]), tmp_path / "results"
    code, out, err = sweep(study, results)
    assert code == 1
    assert "loss became" in err.splitlines()[-1]
    assert "single" in out
    statuses = {row["method"]: row["status"] for row in rows_of(results)}
    assert statuses == {"single": "done", "nfe": "failed"}
    [failed] = results.glob("runs/*nfe2*")
    written_at = (failed / "row.json").stat().st_mtime_ns

    assert sweep(study, results)[0] == 1
    assert (failed / "row.json").stat().st_mtime_ns == written_at
    assert sweep(study, results, "--retry", "failed")[0] == 1
    assert (failed / "row.json").stat().st_mtime_ns > written_at


def test_crash_of_one_run_ends_that_run_alone(tiny_study: Study, tmp_path: Path) -> None:
    study, results = tiny_study(methods=["single", "nfe"], recipe={"epochs": 60}), tmp_path / "results"
    process = command(study, "--results", results, "--threads", 1, "--workers", 2, "--checkpoint-seconds", 0.2)
    victim = _pid_training(results, "nfe", process)
    os.kill(victim, signal.SIGKILL)
    code, _, err = finished(process)
    assert code == 1
    assert "killed by SIGKILL" in err
    assert {row["method"]: row["status"] for row in rows_of(results)} == {"single": "done"}
    _, status, _ = finished(command(study, "--results", results, "--status"))
    assert "1 finished, 1 interrupted" in status
    assert sweep(study, results)[0] == 0
    assert [row["status"] for row in rows_of(results)] == ["done", "done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_sweep_leaves_nothing_running_and_goes_on(
    number: int, tiny_study: Study, tmp_path: Path, temporary: Path
) -> None:
    study, results = tiny_study(recipe={"epochs": 100}), tmp_path / "results"
    options = {"env": os.environ | {"TMPDIR": str(temporary)}, "start_new_session": True}
    process = command(study, "--results", results, "--threads", 1, **options)
    worker = _pid_training(results, "single", process)
    assert list(temporary.glob("pymp-*/listener-*"))
    if number == signal.SIGINT:  # as a terminal does
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the run goes on without its sweep"
        time.sleep(0.05)
    while list(temporary.glob("pymp-*")):
        assert time.monotonic() < deadline, "the fork server leaves its socket"
        time.sleep(0.05)
    [run] = runs_in(results)
    assert (run / "checkpoint.state").is_file()
    assert not (run / "row.json").exists()
    code, _, err = sweep(study, results)
    assert code == 0, err
    assert (run / "log").read_text().count("main epoch 1/100") == 1, "it began again instead of going on"


def test_sweep_goes_on_and_can_be_stopped_when_its_fork_server_was_killed(tiny_study: Study, tmp_path: Path) -> None:
    """It must not take the run under way for dead, nor wait for it before anything else."""
    study, results = tiny_study(methods=["single", "nfe"], recipe={"epochs": 200}), tmp_path / "results"
    process = command(study, "--results", results, "--threads", 1, "--workers", 2)
    pids = [_pid_training(results, method, process) for method in ("single", "nfe")]
    server = parent_of(pids[0])
    assert server not in (1, process.pid)
    os.kill(server, signal.SIGKILL)
    time.sleep(1.0)  # twice as long as the sweep takes to notice
    assert lock_holders(results) == set(pids), "a run ended with the server"
    process.send_signal(signal.SIGTERM)
    asked_at = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - asked_at < 10
    assert not lock_holders(results)
    assert all((run / "checkpoint.state").is_file() for run in runs_in(results))


def test_status_and_dry_run_train_nothing(tiny_study: Study, tmp_path: Path) -> None:
    study, results = tiny_study(methods=["single", "mimo"]), tmp_path / "results"
    code, out, _ = finished(command(study, "--results", results, "--dry-run"))
    assert code == 0
    assert "2 runs: 2 not submitted" in out
    assert out.count("training FLOPs") == 3
    code, out, _ = finished(command(study, "--results", results, "--status"))
    assert code == 0
    assert "2 not submitted" in out
    assert not results.exists()


def test_predicted_training_flops_are_those_counted(tiny_study: Study, tmp_path: Path) -> None:
    study = tiny_study(methods=["single", {"method": "prune_and_tune", "num_members": 2}, "mixmo"])
    assert sweep(study, tmp_path)[0] == 0
    counted = {row["key"]: row["costs"]["training_flops"] for row in rows_of(tmp_path)}
    for run in expand(resolved_study(str(study))):
        assert planned(run).training_flops == counted[run.key]


def test_one_run_by_its_index(tiny_study: Study, tmp_path: Path) -> None:
    study = tiny_study(methods=["single", "mimo"])
    code, out, err = finished(command(study, "--index", 0, "--results", tmp_path, module="benchmark.run"))
    assert code == 0, err
    assert "single" in out
    assert "main epoch 2/2" in err
    [run] = runs_in(tmp_path)
    with claim(run):
        (run / "row.json").unlink()
        process = command(study, "--index", 0, "--results", tmp_path, module="benchmark.run")
        code, out, err = finished(process)
    assert code == 0
    assert "another process is at it" in err
    assert Results(tmp_path).row(run.name) is None


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def lock_holders(results: Path) -> set[int]:
    """Processes that hold a run."""
    locks = [lock for run in runs_in(results) if (lock := look(run)) is not None and lock.is_held]
    return {lock.owner.process for lock in locks if lock.owner is not None}


def _pid_training(results: Path, method: str, process: subprocess.Popen[str]) -> int:
    """The process that holds a run's lock, once it has said how far it is."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        for run in results.glob(f"runs/*{method}*"):
            lock = look(run)
            if (run / "progress.json").exists() and lock is not None and lock.owner is not None:
                return lock.owner.process
        time.sleep(0.02)
    raise AssertionError("no run started")
