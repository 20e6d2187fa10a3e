"""Sweeps on a real SLURM cluster, as their users type them."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from benchmark.config import STUDIES
from benchmark.errors import exit_code
from benchmark.lock import Lock, look
from benchmark.sweep import main
from slurm.local_cluster.cluster import Cluster

PROFILE: dict[str, Any] = {
    "partition": "main",
    "gpus": 1,
    "cpus": 1,
    "memory_gb": 1,
    "time_limit_minutes": 30,
    "array_parallelism": 2,
}


def cut_quickstart(folder: Path, name: str = "cut", epochs: int = 30, **changes: Any) -> Path:
    """The packaged quickstart with two of its methods, one of several stages, and one seed."""
    study = yaml.safe_load((STUDIES / "quickstart.yaml").read_text())
    kept = ("prune_and_tune", "nfe")
    study["methods"] = [m for m in study["methods"] if (m if isinstance(m, str) else m["method"]) in kept]
    study["tasks"][0] |= {"train_images": 300, "test_images": 200, "validation_images": 60, "out_of_distribution": []}
    study["tasks"][0].pop("shifted")
    study["recipe"]["epochs"] = epochs
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(study | {"seeds": [0], "name": name} | changes))
    return path


@dataclass
class Sweep:
    """A study on a cluster."""

    study: Path
    results: Path
    cluster: Cluster
    profile: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | self.cluster.environment | {"OMP_NUM_THREADS": "1"}

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """The command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "benchmark.sweep", *self._words(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | environment,
        )

    def command(self, *arguments: object, **environment: str) -> tuple[int, str, str]:
        """Exit code and what was said; in this process, which has imported torch already."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment | environment),
            mock.patch.object(sys, "argv", ["benchmark.sweep", *self._words(arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = exit_code(main)
        return code, out.getvalue(), err.getvalue()

    def _words(self, arguments: tuple[object, ...]) -> list[str]:
        return [str(self.study), "--results", str(self.results), *map(str, arguments)]

    @property
    def submission(self) -> tuple[object, ...]:
        return ("--on", "slurm", "--cluster", self.profile, "--checkpoint-seconds", 1)

    def submit(self, *arguments: object) -> str:
        code, out, err = self.command(*self.submission, *arguments)
        assert code == 0, err
        return out

    def status(self) -> str:
        code, out, err = self.command("--status")
        assert code == 0, err
        return out

    def slurm(self, *command: object) -> str:
        """What a command of SLURM's prints."""
        return subprocess.run(
            [str(part) for part in command], env=self.environment, capture_output=True, text=True, timeout=60
        ).stdout

    def jobs(self, *states: str) -> list[str]:
        chosen = ["-t", ",".join(states)] if states else []
        return self.slurm("squeue", "-h", "-r", *chosen, "-o", "%i").split()

    def runs(self) -> list[Path]:
        return sorted(path for path in (self.results / "runs").glob("*") if path.is_dir())

    def running(self, method: str = "") -> list[tuple[Path, Lock]]:
        """Runs that have saved a checkpoint and are at work, with their locks."""
        found = []
        for run in self.runs():
            lock = look(run)
            saved = (run / "checkpoint.state").exists()
            if f"-{method}" in run.name and saved and lock and lock.is_held and lock.owner:
                found.append((run, lock))
        return found

    def wait_for(self, what: str, is_so: Callable[[], Any], seconds: float = 90.0) -> Any:
        give_up_at = time.monotonic() + seconds
        while not (answer := is_so()):
            assert time.monotonic() < give_up_at, f"waited {seconds:.0f} s for {what}\n{self.logs()}"
            time.sleep(0.1)
        return answer

    def wait_for_running(self, method: str = "") -> tuple[Path, int]:
        """The folder and the process of a run that is at work."""
        run, lock = self.wait_for(f"a run of {method or 'any method'}", lambda: self.running(method))[0]
        return run, lock.owner.process

    def finish(self) -> dict[str, dict[str, Any]]:
        """Wait for the queue, type the same command again until all is finished, and return the rows."""
        for _ in range(4):
            self.wait_for("an empty queue", lambda: not self.jobs(), 300)
            code, out, err = self.command(*self.submission)
            assert code == 0, err
            if "report.html" in err:
                return rows_of(self.results, self.study.stem)
        raise AssertionError(f"not finished after four submissions:\n{out}{err}\n{self.logs()}")

    def logs(self) -> str:
        tails = [
            f"{path}:\n{path.read_text(errors='replace')[-1500:]}"
            for path in sorted(self.results.glob("*/submissions/*/tasks/*/*_log.out"))
        ]
        return "\n".join([self.slurm("squeue"), self.slurm("sinfo"), *tails])


def rows_of(results: Path, study: str) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (results / study / "rows.jsonl").read_text().splitlines()]
    return {row["key"]: row for row in rows}


def numbers(rows: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """What must not depend on what happened on the way: all but times."""
    return {key: (row["status"], row["metrics"], row["costs"]) for key, row in rows.items()}


def make_sweep(cluster: Cluster, folder: Path, study: Path | None = None, **profile: Any) -> Sweep:
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(PROFILE | profile))
    return Sweep(study or cut_quickstart(folder), folder / "results", cluster, path)
