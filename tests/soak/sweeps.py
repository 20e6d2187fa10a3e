"""The quickstart, shrunk, and the commands that its users give, as processes of their own."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MARK = "TUTTI_SOAK"
"""In the environment of every process that a sweep starts, so that those left behind are found."""

SHRUNK_QUICKSTART: dict[str, Any] = {
    "title": "The quickstart, shrunk",
    "tasks": [
        {
            "dataset": "digits",
            "network": {"name": "wide_resnet", "depth": 10, "width": 1},
            "train_images": 400,
            "validation_images": 100,
            "test_images": 100,
            "shifted": {"kinds": ["gaussian_noise"], "severities": [3]},
        }
    ],
    "recipe": {
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.1,
        "schedule": {"name": "constant_then_linear"},
        "augmentation": {"crop_padding": 1, "flip": False},
    },
    "methods": [
        "single",
        {"method": "deep_ensemble", "num_members": 2},
        {"method": "batch_ensemble", "num_members": 2, "batches": "tiled"},
        {"method": "mimo", "num_members": 2},
        {"method": "mixmo", "num_members": 2},
        {"method": "prune_and_tune", "num_members": 2},
        {"method": "nfe", "num_members": 2, "sparsity": 0.3},
    ],
    "seeds": [0, 1],
}


class Difference(Exception):
    """Something is not as it would have been without the faults."""


def write_study(folder: Path, study: dict[str, Any], name: str = "soak") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


@dataclass
class Sweep:
    """`python -m benchmark.sweep` under way."""

    process: subprocess.Popen[bytes]
    said_at: Path
    """What it says on standard error."""
    sent: set[int] = field(default_factory=set)
    """Signals that it was sent itself."""
    saw_full_disk: bool = False
    lost_its_server: bool = False
    """To SIGKILL."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def works(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float) -> None:
        """Raises Difference where it doesn't end."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Difference(f"a sweep has not ended after {seconds:.0f} s; it said:\n{self.said()}") from None

    def said(self) -> str:
        return self.said_at.read_text(errors="replace")

    def judge(self) -> None:
        """Whether it ended as it may: with a line that says why, and only of what was done to it."""
        code, said = self.process.returncode, self.said()
        last = said.strip().rpartition("\n")[2]
        fits = {
            0: True,
            1: last.startswith("failed: "),
            2: self.saw_full_disk and last.startswith("error: "),
            130: bool(self.sent) and last.startswith("interrupted"),
        }.get(code, -code in self.sent)
        if not fits or "Traceback" in said:
            raise Difference(f"a sweep ended with {code} after {sorted(self.sent) or 'no signal of its own'}:\n{said}")


def start(study: Path, results: Path, temporary: Path, *options: object) -> Sweep:
    """A sweep on one thread per run, whose temporary files lie in a folder of their own."""
    temporary.mkdir(parents=True, exist_ok=True)
    said_at = temporary.with_name(f"{temporary.name}-said-{time.monotonic_ns()}")
    command = [sys.executable, "-m", "benchmark.sweep", study, "--results", results, "--threads", 1, "--offline"]
    with open(said_at, "wb") as said:
        process = subprocess.Popen(
            [str(part) for part in [*command, *options]],
            env=environment(temporary),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    return Sweep(process, said_at)


def report(study: Path, results: Path, temporary: Path) -> None:
    """Raises Difference where `python -m benchmark.report` fails."""
    command = [sys.executable, "-m", "benchmark.report", str(study), "--results", str(results)]
    done = subprocess.run(command, env=environment(temporary), capture_output=True, text=True, timeout=300)
    if done.returncode or "Traceback" in done.stderr:
        raise Difference(f"the report ended with {done.returncode}:\n{done.stderr}")


def environment(temporary: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(temporary), MARK: str(temporary), "OMP_NUM_THREADS": "1"}


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def server_of(sweep: Sweep) -> list[int]:
    """The process that forks the sweep's runs; empty where it has none (yet)."""
    return [child for child in children_of(sweep.pid) if is_alive(child) and b"forkserver" in _command_of(child)]


def workers_of(sweep: Sweep) -> list[int]:
    return [worker for server in server_of(sweep) for worker in children_of(server) if is_alive(worker)]


def marked(temporary: Path) -> list[int]:
    """Processes that stem from a sweep with this temporary folder."""
    found, mark = [], f"{MARK}={temporary}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0") and is_alive(int(path.name)):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def send(pid: int, number: int) -> bool:
    """Whether there was a living process to send it to."""
    if not is_alive(pid):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
