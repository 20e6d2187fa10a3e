"""The cluster that the other tests run on: it starts whole, says what is wrong, and leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from benchmark.errors import UserError
from slurm.local_cluster import processes
from slurm.local_cluster.cluster import Cluster
from slurm.local_cluster.configuration import Settings, cluster_name


def slurm(cluster: Cluster, *command: str) -> str:
    environment = os.environ | cluster.environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout.strip()


def test_job_gets_a_gpu_of_its_own(cluster: Cluster) -> None:
    assert slurm(cluster, "srun", "--gres=gpu:1", "printenv", "CUDA_VISIBLE_DEVICES") in ("0", "1")
    assert slurm(cluster, "srun", "-N2", "--mem=10", "printenv", "SLURM_JOB_NUM_NODES").split() == ["2", "2"]


def test_stop_ends_what_was_started_and_nothing_else(cluster: Cluster) -> None:
    other = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))
    other.start(Settings(nodes=1, accounting="none"))
    slurm(other, "sbatch", "--output=/dev/null", "--wrap", "sleep 1000 & sleep 1000")
    decoy = subprocess.Popen(["sleep", "1000"], env={"SLURM_CLUSTER_NAME": "another"})
    give_up_at = time.monotonic() + 20
    while not processes.with_variable("SLURM_CLUSTER_NAME", cluster_name(other.folder)):
        assert time.monotonic() < give_up_at, "the job never started"
        time.sleep(0.1)
    try:
        other.stop()
        assert not processes.with_variable("SLURM_CLUSTER_NAME", cluster_name(other.folder))
        assert not processes.steps_of(other.folder / "log")
        assert not any(other.pids().values())
        assert decoy.poll() is None
        assert all(cluster.pids().values())
    finally:
        decoy.kill()
        decoy.wait()


@pytest.mark.parametrize("name", ["with blank", "a,b", "x" * 80])
def test_folder_that_slurm_cannot_live_in_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a cluster's folder may"):
        Cluster(tmp_path / name).start(Settings())
    assert not (tmp_path / name).exists()


def test_running_cluster_keeps_its_settings(cluster: Cluster) -> None:
    with pytest.raises(UserError, match="runs with other settings; stop it first"):
        cluster.start(Settings(nodes=1))


@pytest.mark.parametrize("arguments", [("--nodes", "0"), ("--set", "nonsense"), ("--gpus", "-1"), ("--nodes", "500")])
def test_wrong_option_is_said_in_one_line(arguments: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # tmp_path is too long
        command = [sys.executable, "-m", "slurm.local_cluster", "start", folder, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert arguments[0] in ended.stderr.splitlines()[-1]
