"""Cluster profiles: what a run needs and how this cluster wants to be asked for it. Strict YAML, like studies."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, field_validator

from benchmark.errors import UserError
from benchmark.strict import Strict, describe, read_yaml

OURS = {
    "array": "array_parallelism",
    "time": "time_limit_minutes",
    "mem": "memory_gb",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "wckey": "wckey",
    "cpus-per-task": "cpus",
    "gpus-per-node": "gpus",
    "signal": "signal_seconds",
    "requeue": "requeue",
    "no-requeue": "requeue",
    **dict.fromkeys(("job-name", "output", "error", "open-mode", "nodes", "ntasks", "ntasks-per-node"), ""),
}
"""Parameters of sbatch that `sbatch:` may not set, and the key that does; those without one are set for every job."""


def _one_line(text: str) -> str:
    """What is written into a batch script must not end its line."""
    if not text.strip() or not text.isprintable():
        raise ValueError(f"must be one printable line, not {text!r}")
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class Needs(Strict):
    """What replaces a profile's values for runs that ran out of memory."""

    memory_gb: float | None = Field(default=None, ge=0.1, le=1e6)
    partition: Line | None = None
    constraint: Line | None = None


class Profile(Strict):
    """A cluster, or one way to use it."""

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    gpus: int = Field(default=1, ge=0, le=64, description="per task")
    cpus: int = Field(default=4, ge=1, le=1024, description="per task")
    memory_gb: float | None = Field(
        default=None, ge=0.1, le=1e6, description="of the host, per task; null: the cluster's default"
    )
    time_limit_minutes: int = Field(ge=1, le=60 * 24 * 366, description="of one task; at it a run goes on in a new one")
    margin: float | None = Field(
        default=1.5,
        ge=1,
        le=100,
        description="tasks get their predicted time times this; null: always time_limit_minutes",
    )
    signal_seconds: int = Field(default=90, ge=10, le=3600, description="before the limit, for saving checkpoints")
    requeue: bool = Field(default=True, description="back into the queue at time limit, preemption and node failure")
    array_parallelism: int = Field(
        default=64, ge=1, le=10**6, description="tasks at once, over all arrays of a submission"
    )
    runs_per_task: int = Field(default=1, ge=1, le=10**6, description="short runs of one task, one after another")
    parallel_runs: int = Field(default=1, ge=1, description="of these so many side by side, on one GPU if there is one")
    setup: list[Line] = Field(default=[], description="lines of shell before Python: modules, environments")
    sbatch: dict[str, Line | int | bool] = Field(
        default={}, description="further sbatch parameters; true is a bare flag"
    )
    wckey: Line | None = Field(default=None, description="null sends none")
    python: Line | None = Field(default=None, description="default: the one that submits")
    device: Line | None = Field(default=None, description="as rows name it, for predictions: NVIDIA H200")
    training_tflops: float | None = Field(
        default=None, ge=1e-6, le=1e9, description="10^12 counted training FLOPs per second, where no earlier run tells"
    )
    retry_oom: Needs = Needs()
    check_results_folder: bool = Field(default=True, description="let a node look for the results folder first")

    @field_validator("time_limit_minutes", mode="before")
    @classmethod
    def _minutes(cls, value: Any) -> Any:
        return minutes_of(value) if isinstance(value, str) else value

    @field_validator("sbatch")
    @classmethod
    def _not_ours(cls, parameters: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        for name, value in parameters.items():
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise ValueError(
                    f"{name!r} is no parameter of sbatch; write it as in --{name.strip('-')} without dashes"
                )
            ours = next((ours for ours in OURS if ours.startswith(name)), None)  # sbatch takes abbreviations
            if ours is not None:
                instead = f"set by {OURS[ours]}" if OURS[ours] else "set for every job"
                raise ValueError(f"{name} can't stand here: it is {instead}")
            if value is False:
                raise ValueError(f"{name}: false has no meaning to sbatch; leave it out")
        return parameters

    def after_oom(self) -> "Profile":
        """For runs that ran out of memory."""
        return self.model_copy(update=self.retry_oom.model_dump(exclude_none=True))


def load_profile(path: Path) -> Profile:
    """Raises UserError."""
    content = read_yaml(path, f"a cluster profile is a mapping with the keys {', '.join(Profile.model_fields)}")
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error)}") from None
    if profile.parallel_runs > profile.runs_per_task:
        raise UserError(
            f"{path}: parallel_runs ({profile.parallel_runs}) can't exceed runs_per_task ({profile.runs_per_task})"
        )
    if profile.signal_seconds >= 60 * profile.time_limit_minutes:
        raise UserError(f"{path}: signal_seconds ({profile.signal_seconds}) must be less than the time limit")
    return profile


def minutes_of(text: str) -> int:
    """Whole minutes, rounded up, of a time as SLURM writes it: `90`, `90:00`, `72:00:00`, `3-0`, `3-00:00:00`."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"must be minutes or a time such as 72:00:00 or 3-00:00:00, not {text!r}")
    days, first, second, third = (int(part or 0) for part in match.groups())
    if match[1]:  # days-hours:minutes:seconds
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    elif match[4]:  # hours:minutes:seconds
        seconds = (first * 60 + second) * 60 + third
    else:  # minutes:seconds
        seconds = first * 60 + second
    return -(-seconds // 60)
