"""Processes, daemons and files are broken while the quickstart runs on a cluster; the same command finishes it.

After each fault the rows equal those of a sweep that nobody disturbed, metric for metric.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_sweep import Sweep, cut_quickstart, make_sweep, numbers

from slurm.local_cluster import processes
from slurm.local_cluster.cluster import Cluster

Undisturbed = dict[str, tuple[Any, ...]]


def kill_run(sweep: Sweep) -> None:
    os.kill(sweep.wait_for_running()[1], signal.SIGKILL)


def kill_task(sweep: Sweep) -> None:
    """The process that looks after the run: the run notices, saves and stops."""
    _, run = sweep.wait_for_running()
    server = processes.parent_of(run)
    os.kill(processes.parent_of(server), signal.SIGKILL)


def kill_server_of_runs(sweep: Sweep) -> None:
    os.kill(processes.parent_of(sweep.wait_for_running()[1]), signal.SIGKILL)


def stop_run_for_a_while(sweep: Sweep) -> None:
    _, run = sweep.wait_for_running()
    os.kill(run, signal.SIGSTOP)
    time.sleep(5)
    os.kill(run, signal.SIGCONT)


def kill_slurmd(sweep: Sweep) -> None:
    """It stays away until SLURM gives its node up and runs the job elsewhere, beside the old process."""
    sweep.wait_for_running()
    node = sweep.slurm("squeue", "-h", "-t", "R", "-o", "%N").split()[0]
    sweep.cluster.kill(f"slurmd-{node}")
    sweep.wait_for("the node's loss", lambda: "down" in sweep.slurm("sinfo", "-h", "-n", node, "-o", "%T"), 150)
    sweep.cluster.start()


def lose_node(sweep: Sweep) -> None:
    """The daemon and all that ran under it die at once."""
    sweep.wait_for_running()
    node = sweep.slurm("squeue", "-h", "-t", "R", "-o", "%N").split()[0]
    sweep.cluster.kill(f"slurmd-{node}")
    for process in processes.descendants(processes.steps_of(sweep.cluster.folder / "log", node)):
        process.signal(signal.SIGKILL)
    sweep.cluster.start()


def declare_node_down(sweep: Sweep) -> None:
    sweep.wait_for_running()
    node = sweep.slurm("squeue", "-h", "-t", "R", "-o", "%N").split()[0]
    sweep.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    sweep.slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")


def restart_controller(sweep: Sweep) -> None:
    sweep.wait_for_running()
    sweep.cluster.kill("slurmctld")
    time.sleep(3)
    sweep.cluster.start()


def kill_all_daemons(sweep: Sweep) -> None:
    sweep.wait_for_running()
    for name, pid in sweep.cluster.pids().items():
        if pid:
            sweep.cluster.kill(name)
    sweep.cluster.start()


def requeue(sweep: Sweep) -> None:
    sweep.wait_for_running()
    sweep.slurm("scontrol", "requeue", sweep.jobs("RUNNING")[0])


def announce_end(sweep: Sweep) -> None:
    """What SLURM sends before a time limit and at preemption."""
    sweep.wait_for_running()
    sweep.slurm("scancel", "--signal=USR2", sweep.jobs("RUNNING")[0])


def preempt(sweep: Sweep) -> None:
    sweep.wait_for_running()
    sweep.slurm("srun", "-p", "urgent", "-N2", "--exclusive", "-t", "1", "sleep", "1")


def cancel_array(sweep: Sweep) -> None:
    sweep.wait_for_running()
    sweep.slurm("scancel", sweep.jobs()[0].partition("_")[0])


def delete_checkpoint(sweep: Sweep) -> None:
    run, process = sweep.wait_for_running()
    os.kill(process, signal.SIGKILL)
    (run / "checkpoint.state").unlink()


def truncate_checkpoint(sweep: Sweep) -> None:
    run, process = sweep.wait_for_running()
    os.kill(process, signal.SIGKILL)
    os.truncate(run / "checkpoint.state", 5000)


def delete_run_folder(sweep: Sweep) -> None:
    shutil.rmtree(sweep.wait_for_running()[0], ignore_errors=True)


def delete_locks(sweep: Sweep) -> None:
    for lock in sweep.wait_for_running()[0].glob("lock.*"):
        lock.unlink()


def delete_submission(sweep: Sweep) -> None:
    sweep.wait_for_running()
    shutil.rmtree(sweep.results / "cut" / "submissions")


def damage_records(sweep: Sweep) -> None:
    """What the project remembers beside the rows."""
    run, process = sweep.wait_for_running()
    os.kill(process, signal.SIGKILL)
    (sweep.results / "cut" / "study.yaml").write_text("[")
    (run / "progress.json").write_text('{"share": "x"}')
    (run / "ending.json").write_text("[]")
    for record in (sweep.results / "cut" / "submissions").glob("*/submission.json"):
        record.write_text("{}")
    sweep.status()


FAULTS = [
    *(kill_run, kill_task, kill_server_of_runs, stop_run_for_a_while, kill_slurmd, lose_node, declare_node_down),
    *(restart_controller, kill_all_daemons, requeue, announce_end, preempt, cancel_array),
    *(delete_checkpoint, truncate_checkpoint, delete_run_folder, delete_locks, delete_submission, damage_records),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_sweep_survives(fault: Callable[[Sweep], None], sweep: Sweep, undisturbed: Undisturbed) -> None:
    sweep.submit()
    fault(sweep)
    assert numbers(sweep.finish()) == undisturbed


def test_time_limit_is_only_a_pause(cluster: Cluster, tmp_path: Path) -> None:
    """A minute is SLURM's shortest limit, and it gives notice some seconds after the start: this run needs more."""
    study = cut_quickstart(tmp_path, epochs=1400, methods=["single"])
    sweep = make_sweep(cluster, tmp_path, study, time_limit_minutes=1, signal_seconds=30)
    sweep.submit()
    [row] = sweep.finish().values()
    [run] = sweep.runs()
    assert row["status"] == "done"
    assert "time is up" in sweep.logs()
    assert (run / "log").read_text().count("main epoch 1/1400") == 1, "it began again instead of going on"


def test_same_study_submitted_twice_at_once_is_submitted_once(sweep: Sweep, undisturbed: Undisturbed) -> None:
    both = [sweep.start(*sweep.submission) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 0]
    assert sum("submitted 2 runs" in text for text in said) == 1, said
    assert numbers(sweep.finish()) == undisturbed
    for run in sweep.runs():
        assert (run / "log").read_text().count("main epoch 30/30") <= 1


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "wb") as file:
        while True:
            file.write(bytes(2**20))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of its own takes root")
def test_full_file_system_loses_nothing(cluster: Cluster, tmp_path: Path, undisturbed: Undisturbed) -> None:
    sweep = make_sweep(cluster, tmp_path)
    sweep.results.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100M", "tutti", sweep.results], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        sweep.submit()
        sweep.wait_for_running()
        filler = sweep.results / "filler"
        fill(filler)
        time.sleep(3)
        code, _, err = sweep.command(*sweep.submission)
        assert code == 2
        assert "No space left" in err.splitlines()[-1]
        filler.unlink()
        assert numbers(sweep.finish()) == undisturbed
    finally:
        sweep.slurm("scancel", "-u", os.geteuid())
        subprocess.run(["umount", "-l", sweep.results], check=True)


def test_plain_array_does_the_same_grid(sweep: Sweep, undisturbed: Undisturbed, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "slurm" / "sweep.sbatch"
    options = ("--array=0-1", "--time=20", "--cpus-per-task=1", f"--output={tmp_path}/%A_%a.log")
    sweep.slurm("sbatch", *options, script, sweep.study, "--results", sweep.results, "--checkpoint-seconds", 1)
    os.kill(sweep.wait_for_running()[1], signal.SIGKILL)
    sweep.wait_for("an empty queue", lambda: not sweep.jobs(), 120)
    sweep.slurm("sbatch", *options, script, sweep.study, "--results", sweep.results)
    assert numbers(sweep.finish()) == undisturbed
