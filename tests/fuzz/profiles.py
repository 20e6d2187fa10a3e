"""Cluster profiles: read, and what is missing of a small study planned for them, down to the text that sbatch gets."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark import sweep
from benchmark.config import expand
from benchmark.run import resolved_study
from benchmark.strict import yaml_text
from slurm.arrays import Array
from slurm.profile import load_profile
from slurm.submit import _Executor, _parameters
from tests.simulated_study import small_study

from .judge import Finding, answer
from .near_valid import NearValid, Way, near_valid
from .studies import parsed

FULL = """\
partition: gpu
account: my-project
qos: normal
constraint: a100
gpus: 1
cpus: 4
memory_gb: 16
time_limit_minutes: 24:00:00
margin: 1.5
signal_seconds: 90
requeue: true
array_parallelism: 32
runs_per_task: 2
parallel_runs: 2
device: NVIDIA H200
training_tflops: 100
setup: [ulimit -c 0, module load cuda]
sbatch: {exclude: "node[13-14]", nice: 3, exclusive: true}
wckey: ensembles
python: /usr/bin/python3
retry_oom: {memory_gb: 64, partition: big}
check_results_folder: true
"""


def kind(folder: Path) -> tuple[Any, Any]:
    texts = [
        FULL,
        *(path.read_text() for path in sorted((Path(sweep.__file__).parents[1] / "slurm/clusters").glob("*"))),
    ]
    path, study_path = folder / "cluster.yaml", folder / "small.yaml"
    study = small_study(["single"], seeds=3, name="small")
    study_path.write_text(yaml_text(study.written()))
    runs = expand(resolved_study(str(study_path)))

    def scripts() -> Iterator[str]:
        """What would be handed to sbatch, for these runs and after running out of memory."""
        for profile in (load_profile(path), load_profile(path).after_oom()):
            executor = _Executor(folder / "tasks", python=profile.python)
            array = Array(30, profile, (tuple(runs),))
            executor.update_parameters(**_parameters(array, 2, "tutti-small", folder / "code"))
            executor.wckey = profile.wckey
            yield executor._make_submission_file_text(executor._submitit_command_str, "uid")

    def check(near: NearValid) -> str:
        path.write_bytes(near.content)
        given = answer(
            sweep.main, study_path, "--on", "slurm", "--cluster", path, "--dry-run", "--results", folder / "r"
        )
        if given.code:
            return "refused"
        if near.must_fail:
            raise Finding(f"silently taken: {near.change.split()[0]}", near.change)
        if not re.search(r"^3 runs in 1 array: \S+ GPU hours", given.out, re.MULTILINE):
            raise Finding("no plan", given.out)
        for script in scripts():
            if any(not line.isprintable() for line in script.splitlines()):
                raise Finding("control characters in a batch script", repr(script))
        return "accepted"

    return near_valid(texts, lambda text: parsed(text, folder), _is_free), check


def _is_free(way: Way) -> bool:
    return way[0] == "sbatch" or way[-1] == "time_limit_minutes"
