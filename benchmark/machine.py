"""How runs are carried out here: nothing of it changes a run's numbers but by rounding. No torch."""

import argparse
import contextlib
import os
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.data.sources import Location
from benchmark.errors import UserError

SHARED = ", shared by "
"""Between the name of a GPU and the number of runs that were trained on it at once."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""What asks a run to save its state and stop; SIGUSR2 is sent by SLURM before a job's time limit and at preemption."""


@dataclass(frozen=True)
class Machine:
    location: Location
    device: str = "auto"
    threads: int | None = None
    """CPU threads of a run; None is torch's default, all cores."""
    checkpoint_seconds: float = 120.0
    runs_per_gpu: int = 1
    """Runs that share a GPU: their times are not those of a GPU alone, which a row says by the device's name."""

    def from_anywhere(self) -> "Machine":
        """The same for a process with another working folder."""
        named = self.location.data_dir or os.environ.get("BENCHMARK_DATA")
        data_dir = Path(named).expanduser().absolute() if named else None
        return replace(self, location=replace(self.location, data_dir=data_dir))


def num_cores() -> int:
    """Cores this process may use; in a SLURM job those it was given, whether or not the cluster binds it to them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(given)) if given.isdecimal() and int(given) else cores


def num_oom_kills() -> int:
    """Processes that the kernel killed so far for want of memory in this process's control group: a job's, a container's."""
    try:
        groups = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return 0
    for controllers, path in groups:
        if "memory" in controllers.split(","):
            counts = Path("/sys/fs/cgroup/memory", path.lstrip("/"), "memory.oom_control")
        else:  # version 2 of control groups
            counts = Path("/sys/fs/cgroup", path.lstrip("/"), "memory.events")
        with contextlib.suppress(OSError):
            found = re.search(r"^oom_kill (\d+)$", counts.read_text(), re.MULTILINE)
            if found:
                return int(found[1])
    return 0


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=named_path, default=Path("results"), help="results folder (default: results)")
    parser.add_argument(
        "--data-dir", type=named_path, help="where data sets lie (then $BENCHMARK_DATA, then the user's cache)"
    )
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=positive, help="CPU threads per run (default: the cores, shared by workers)")
    parser.add_argument(
        "--checkpoint-seconds", type=seconds, default=120.0, help="seconds between checkpoints (default: 120)"
    )


def machine_from(arguments: argparse.Namespace) -> Machine:
    """Raises UserError."""
    check_device(arguments.device)
    if arguments.data_dir is not None and not arguments.data_dir.is_dir():
        raise UserError(f"--data-dir {arguments.data_dir}: no such folder")
    return Machine(
        location=Location(data_dir=arguments.data_dir, offline=arguments.offline),
        device=arguments.device,
        threads=arguments.threads,
        checkpoint_seconds=arguments.checkpoint_seconds,
    )


def check_device(name: str) -> None:
    """Of `--device`. Raises UserError."""
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", name):
        raise UserError(f"--device {name}: unknown device (allowed: auto, cpu, cuda, cuda:N)")


def named_path(text: str) -> Path:
    """An option's folder or file. Empty text, of a variable that is not set, would be the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must be a path, not {text!r}")
    return Path(text)


def positive(text: str) -> int:
    """An option's whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """An option's number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, not {text!r}")
    return value


def minutes(text: str) -> float:
    """An option's number of minutes above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of minutes above 0, not {text!r}")
    return value
