"""What the commands say and do on a cluster: plan, submit, status, retry, cancel, and wrong input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_sweep import PROFILE, Sweep, cut_quickstart, make_sweep, numbers

from benchmark.report.write import write_report
from benchmark.store import Results
from slurm.local_cluster.cluster import Cluster

Undisturbed = dict[str, tuple[Any, ...]]
DIVERGES = {"method": "single", "recipe": {"learning_rate": 1e30, "schedule": {"name": "constant"}}}


def states_in(status: str) -> list[str]:
    known = ("not submitted", "queued", "running", "interrupted", "failed", "finished")
    lines = [line for line in status.splitlines() if "  seed 0  " in line]
    return [next(state for state in known if line.split("  seed 0  ")[1].startswith(state)) for line in lines]


def test_undisturbed_sweep_from_plan_to_report(sweep: Sweep, undisturbed: Undisturbed) -> None:
    code, planned, _ = sweep.command(*sweep.submission, "--dry-run")
    assert code == 0
    assert "2 runs in 1 array: 1 GPU hours requested at most" in planned
    assert not sweep.results.exists()
    assert states_in(sweep.status()) == ["not submitted"] * 2

    assert "submitted 2 runs" in sweep.submit()
    assert set(states_in(sweep.status())) <= {"queued", "running"}
    assert "nothing to submit" in sweep.submit()
    sweep.wait_for_running()
    sweep.wait_for("progress in --status", lambda: "images/s" in sweep.status())
    rows = sweep.finish()
    assert numbers(rows) == undisturbed
    assert states_in(sweep.status()) == ["finished"] * 2
    for row in rows.values():
        assert row["environment"]["job"].partition("_")[0].isdecimal()
        assert row["environment"]["commit"]
    code, planned, _ = sweep.command(*sweep.submission, "--dry-run")
    assert "nothing to submit" in planned


def test_earlier_runs_tell_how_long_others_take(sweep: Sweep) -> None:
    sweep.submit()
    sweep.finish()
    sweep.study = cut_quickstart(sweep.study.parent, seeds=[0, 1, 2])
    _, planned, _ = sweep.command(*sweep.submission, "--dry-run")
    assert "tasks of 5 minutes" in planned
    assert "4 by earlier runs on" in planned


def test_status_tells_why_after_cancelling_and_cancels_this_study_alone(sweep: Sweep, tmp_path: Path) -> None:
    sweep.submit()
    other = make_sweep(sweep.cluster, tmp_path, cut_quickstart(tmp_path, name="other", epochs=2000))
    other.submit()
    foreign = sweep.slurm("sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 60").strip()
    sweep.wait_for("a run to begin", lambda: sweep.running())
    code, out, err = sweep.command("--cancel")
    assert code == 0, err
    assert "cancelled 2 jobs" in out
    names = sweep.wait_for("the end of its jobs", lambda: _names_without(sweep, "tutti-cut-"))
    assert any(name.startswith("tutti-other-") for name in names)
    assert foreign in sweep.jobs()
    status = sweep.status()
    assert set(states_in(status)) <= {"interrupted", "finished", "not submitted"}
    assert "cancelled" in status
    other.command("--cancel")
    sweep.slurm("scancel", foreign)


def test_failed_run_says_why_and_is_retried_when_asked(cluster: Cluster, tmp_path: Path) -> None:
    sweep = make_sweep(cluster, tmp_path, cut_quickstart(tmp_path, methods=[DIVERGES, "single"], epochs=2))
    sweep.submit()
    sweep.wait_for("an empty queue", lambda: not sweep.jobs())
    status = sweep.status()
    assert sorted(states_in(status)) == ["failed", "finished"]
    assert "loss became" in status
    code, _, err = sweep.command(*sweep.submission)
    assert code == 1
    assert "loss became" in err.splitlines()[-1]
    report = (sweep.results / "cut" / "report" / "report.md").read_text()
    assert "1 of 2 runs are missing here: 1 error." in report
    assert "nothing to submit" in sweep.command(*sweep.submission, "--retry", "oom")[1]
    assert "submitted 1 run " in sweep.submit("--retry", "failed")
    assert "queued" in states_in(sweep.status())
    sweep.wait_for("an empty queue", lambda: not sweep.jobs())
    [failed] = [run for run in sweep.runs() if json.loads((run / "row.json").read_text())["status"] == "failed"]
    assert (failed / "log").read_text().count("epoch 1/2") == 0


def test_short_runs_share_a_task(cluster: Cluster, tmp_path: Path, undisturbed: Undisturbed) -> None:
    sweep = make_sweep(cluster, tmp_path, runs_per_task=3, parallel_runs=2, cpus=2)
    assert "(1 task)" in sweep.submit()
    assert numbers(sweep.finish()) == undisturbed
    events = re.findall(r"  (started|done)", sweep.logs())
    assert events == ["started", "started", "done", "done"], "not side by side"


def test_without_accounting_nothing_hangs_and_nothing_runs_for_ever(
    cluster_without_accounting: Cluster, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """This cluster's arrays may have three tasks."""
    study = cut_quickstart(tmp_path, seeds=[0, 1])
    sweep = make_sweep(cluster_without_accounting, tmp_path, study)
    assert "2 arrays" in sweep.command(*sweep.submission, "--dry-run")[1]
    sweep.submit()
    run, _ = sweep.wait_for_running()
    for name in ("slurmd-n1", "slurmd-n2"):
        sweep.cluster.kill(name)
    for pid in _processes_of(sweep.cluster):
        os.kill(pid, signal.SIGKILL)
    sweep.wait_for("the runs' death to show", lambda: "running" not in states_in(sweep.status()), 20)
    sweep.slurm("scancel", "-u", os.geteuid())
    sweep.cluster.start()
    sweep.wait_for("an empty queue", lambda: not sweep.jobs())
    status = sweep.status()
    assert not {"running", "queued"} & set(states_in(status))
    assert f"{run.name}" in status
    rows = sweep.finish()
    assert len(rows) == 4
    assert numbers({key: row for key, row in rows.items() if row["seed"] == 0}) == undisturbed


def _names_without(sweep: Sweep, beginning: str) -> list[str]:
    """Names of the jobs in the queue once none begins so."""
    names = sweep.slurm("squeue", "-h", "-r", "-o", "%j").split()
    return [] if any(name.startswith(beginning) for name in names) else names


def _processes_of(cluster: Cluster) -> list[int]:
    from slurm.local_cluster import processes

    return [process.pid for process in processes.descendants(processes.steps_of(cluster.folder / "log"))]


def test_code_that_was_submitted_is_the_code_that_runs(cluster: Cluster, tmp_path: Path) -> None:
    """A copy of the project is edited between submission and start."""
    root = Path(__file__).parents[2]
    project = tmp_path / "project"
    for package in ("benchmark", "methods", "slurm"):
        shutil.copytree(root / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    sweep = make_sweep(cluster, tmp_path, cut_quickstart(tmp_path, epochs=2, methods=["single"]))
    blocker = sweep.slurm(
        "sbatch", "--parsable", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 60"
    ).strip()
    submitted = subprocess.run(
        [sys.executable, "-m", "benchmark.sweep", *sweep._words(sweep.submission)],
        cwd=project, env=sweep.environment | {"PYTHONPATH": str(project)}, capture_output=True, text=True,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr
    (project / "benchmark" / "run.py").write_text("raise SystemExit('edited')")
    sweep.slurm("scancel", blocker)
    [run] = sweep.wait_for("the row", lambda: list(sweep.results.glob("runs/*/row.json")))
    assert json.loads(run.read_text())["status"] == "done"
    assert write_report(Results(sweep.results), Results(sweep.results).read_study("cut")).is_dir()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partition": "nosuch"}, "invalid partition"),
        ({"gpus": 40}, "Requested node configuration is not available"),
        ({"sbatch": {"dependency": "afterok:nonsense"}}, "dependency"),
        ({"typo": 1}, "unknown key 'typo'"),
        ({"time_limit_minutes": "soon"}, "must be minutes or a time such as 72:00:00"),
    ],
)
def test_wrong_profile_is_one_line_and_submits_nothing(changes: dict[str, Any], said: str, sweep: Sweep) -> None:
    sweep.profile.write_text(yaml.safe_dump(PROFILE | changes))
    _assert_refused(sweep, sweep.command(*sweep.submission), said)


def test_no_sbatch_on_the_path(sweep: Sweep) -> None:
    _assert_refused(sweep, sweep.command(*sweep.submission, PATH="/nonexistent"), "sbatch is not on the PATH")


def test_hours_are_converted_to_minutes(sweep: Sweep) -> None:
    sweep.profile.write_text(yaml.safe_dump(PROFILE) + "time_limit_minutes: 72:00:00\n".replace("30", ""))
    text = sweep.profile.read_text().replace("time_limit_minutes: 30\n", "")
    sweep.profile.write_text(text)
    assert "tasks of 4320 minutes" in sweep.command(*sweep.submission, "--dry-run")[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system that only this process sees takes root")
def test_results_folder_that_nodes_do_not_see_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    sweep.results = hidden / "results"
    words = " ".join([sys.executable, "-m", "benchmark.sweep", *sweep._words(sweep.submission)])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {hidden} && echo mounted && {words}"],
        capture_output=True, text=True, env=sweep.environment,
    )  # fmt: skip
    if "mounted" not in done.stdout:
        pytest.skip("mounting is not allowed here")
    _assert_refused(sweep, (done.returncode, done.stdout, done.stderr), "nodes don't see it")


def test_controller_that_does_not_answer_is_no_reason_to_submit(sweep: Sweep) -> None:
    sweep.cluster.kill("slurmctld")
    code, _, err = sweep.command(*sweep.submission)
    sweep.cluster.start()
    assert code == 1
    assert "Unable to contact slurm controller" in err.splitlines()[-1]
    assert not list(sweep.results.glob("*/submissions/*/submission.json"))


def test_jobs_execute_nothing_from_a_folder_that_others_could_write(cluster: Cluster, tmp_path: Path) -> None:
    sweep = make_sweep(cluster, tmp_path, sbatch={"hold": True}, requeue=False)
    sweep.submit()
    [code], [tasks] = (list(sweep.results.glob(f"*/submissions/*/{name}")) for name in ("code", "tasks"))
    assert code.stat().st_mode & 0o777 == tasks.stat().st_mode & 0o777 == 0o700
    tasks.chmod(0o770)
    sweep.slurm("scontrol", "release", *sweep.jobs())
    sweep.wait_for("an empty queue", lambda: not sweep.jobs())
    assert not sweep.runs()
    assert "nothing is executed from there" in sweep.logs()
    sweep.wait_for("the word of accounting", lambda: "exit code 1:0" in sweep.status())


def _assert_refused(sweep: Sweep, ended: tuple[int, str, str], said: str) -> None:
    code, _, err = ended
    assert code == 2, err
    assert said in err.splitlines()[-1]
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert not sweep.jobs()
    assert not list(sweep.results.glob("*/submissions/*/submission.json"))
