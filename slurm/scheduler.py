"""What SLURM is asked: its queue, its accounting where there is one, and a few things to do. Nothing here waits for ever."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark.errors import UserError, WorkError

SECONDS_TO_ANSWER = 60
ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"),
    *("PREEMPTED", "REVOKED"),
}
"""States of jobs that squeue still lists for a while and that won't run again."""


@dataclass(frozen=True)
class Queued:
    """A job, or one task of an array, that waits or runs."""

    job: str
    """`12_3`, or `12` of a job that is no array."""
    task: int
    name: str
    command: str
    folder: str
    state: str
    reason: str

    @property
    def is_held_by_slurm(self) -> bool:
        """It would wait for ever: a launch failed, and SLURM wants to be told to go on."""
        return self.state == "PENDING" and "requeued" in self.reason and "held" in self.reason

    @property
    def runs(self) -> bool:
        return self.state in ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED")


@dataclass(frozen=True)
class Ended:
    """What accounting remembers of a job or task."""

    job: str
    tasks: Sequence[int]
    """More than one where they ended before they began."""
    name: str
    state: str
    exit_code: str
    nodes: str


def require() -> None:
    """Raises UserError where this machine can't talk to a SLURM cluster."""
    for program in ("sbatch", "squeue", "scontrol", "scancel"):
        if shutil.which(program) is None:
            raise UserError(f"--on slurm: {program} is not on the PATH; log in to a node that submits to the cluster")


def queue() -> list[Queued]:
    """This user's jobs that wait or run. Raises WorkError where SLURM doesn't answer."""
    # Without --jobs: an unknown job would look like a controller that doesn't answer.
    separator = "\x1f"
    form = separator.join(("%i", "%j", "%T", "%r", "%o", "%Z"))
    lines = _ask("squeue", "-h", "-r", "-u", str(os.geteuid()), "-t", "all", "-o", form).splitlines()
    found = []
    for line in lines:
        parts = line.split(separator)
        if len(parts) == 6 and parts[2] not in ENDED:
            job, name, state, reason, command, folder = (part.strip() for part in parts)
            found.append(Queued(job, tasks_of(job)[0], name, command, folder, state, reason))
    return found


def ended(names: Iterable[str], since: str) -> list[Ended] | None:
    """What became of jobs of these names since a day, the latest last; None where there is no accounting."""
    if shutil.which("sacct") is None:
        return None
    fields = ("JobID", "JobName", "State", "ExitCode", "NodeList")
    try:
        text = _ask(
            *("sacct", "-n", "-P", "-X", "-D", "-o", ",".join(fields), "-S", since, "--name", ",".join(names)),
            patience=30,
        )
    except WorkError:
        return None
    found = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == len(fields) and parts[2]:
            job, name, state, exit_code, nodes = parts
            found.append(Ended(job, tasks_of(job), name, state.split()[0].rstrip("+"), exit_code, nodes))
    return found


def tasks_of(job: str) -> Sequence[int]:
    """[3] of `12_3`, [2, 3, 4, 7] of `12_[2-4,7%2]`; an array of one is no array to SLURM, and its only task is 0."""
    ranges = re.fullmatch(r"\d+_\[?([\d,-]+)(?:%\d+)?\]?", job)
    if ranges is None:
        return [0]
    tasks: list[int] = []
    for part in ranges[1].split(","):
        first, _, last = part.partition("-")
        tasks.extend(range(int(first), int(last or first) + 1))
    return tasks


def max_array_size() -> int:
    """Tasks that an array may have."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1])) if found else 1001


def cancel(jobs: Sequence[str]) -> None:
    for some in _portions(jobs):
        _ask("scancel", *some)


def release(job: str) -> None:
    _ask("scontrol", "release", job)


def requeue(job: str) -> None:
    _ask("scontrol", "requeue", job)


def seconds_left(job: str) -> float | None:
    """Until the job's time limit."""
    try:
        text = _ask("squeue", "-h", "-j", job, "-o", "%L").strip()
    except WorkError:
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def sees_folder(path: str, options: Sequence[str]) -> bool | None:
    """Whether a node sees a folder; None where none is free to look at once."""
    asked = ["srun", "--immediate=5", "--ntasks=1", "--time=1", "--job-name=tutti-looks", *options]
    if shutil.which("srun") is None:
        return None
    try:
        looked = subprocess.run(
            [*asked, "--chdir=/", "sh", "-c", 'test -d "$0" && echo seen || echo unseen', path],
            capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    return {"seen": True, "unseen": False}.get(looked.stdout.strip())


def _ask(*command: str, patience: float = SECONDS_TO_ANSWER) -> str:
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"SLURM_BITSTR_LEN": "0"},  # else lists of tasks end in dots
        )
    except subprocess.TimeoutExpired:
        raise WorkError(f"{command[0]} did not answer within {patience:g} s; try again") from None
    except OSError as error:
        raise WorkError(f"{command[0]} can't be started ({error.strerror})") from None
    if answer.returncode:
        raise WorkError(f"{command[0]}: {last_line(answer.stderr) or f'exit code {answer.returncode}'}")
    return answer.stdout


def last_line(text: str) -> str:
    """What a command of SLURM's says when it refuses: the last line, without its own name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^\w+: (error: )?", "", lines[-1]) if lines else ""


def _portions(jobs: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    """A command line has an end."""
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]
