"""From a study to job arrays: what is missing, grouped by needs, submitted once; and back: cancelling them."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.config import Run, Study
from benchmark.errors import UserError, WorkError
from benchmark.forecast import Forecast, Forecaster, describe_forecasts
from benchmark.lock import Busy, claim, look
from benchmark.machine import Machine
from benchmark.states import RunState, to_do
from benchmark.store import Results
from slurm import scheduler
from slurm.arrays import Array, make_arrays
from slurm.profile import Profile
from slurm.scheduler import Queued
from slurm.states import cluster_states, plain_jobs
from slurm.submissions import Submission, read_submissions, submissions_dir
from slurm.submit import submit

OOM = ("oom_device", "oom_host")
DEFAULT_MAX_ARRAY_SIZE = 1001
"""SLURM's, where none can be asked."""


@dataclass(frozen=True)
class Plan:
    """What would be submitted."""

    arrays: list[Array]
    forecasts: list[Forecast]

    @property
    def num_runs(self) -> int:
        return sum(array.num_runs for array in self.arrays)

    def lines(self) -> list[str]:
        """For people: a line per array, and the sums."""
        if not self.arrays:
            return ["nothing to submit"]
        lines = [
            f"array {number}: {array.num_runs} runs in {count(len(array.tasks), 'task')} of {array.minutes} minutes, each "
            f"with {count(array.profile.gpus, 'GPU')} and {count(array.profile.cpus, 'CPU')}"
            for number, array in enumerate(self.arrays)
        ]
        requested = sum(array.gpu_hours for array in self.arrays)
        hours = f"{requested:.3g} GPU hours requested at most, {describe_forecasts(self.forecasts)}"
        return [*lines, f"{self.num_runs} runs in {count(len(self.arrays), 'array')}: {hours}"]


def count(number: int, what: str) -> str:
    """`1 task`, `2 tasks`"""
    return f"{number} {what}{'' if number == 1 else 's'}"


def plan(
    states: Sequence[RunState], profile: Profile, forecaster: Forecaster, retry: str | None, max_array_size: int
) -> Plan:
    """Runs that ran out of memory before get arrays of their own, with what the profile gives them then."""
    runs = to_do(states, retry)
    oom = {state.run.key for state in states if state.why in OOM}
    forecasts = {run.key: forecaster(run) for run in runs}

    def arrays(some: list[Run], needs: Profile) -> list[Array]:
        return make_arrays(some, needs, lambda run: forecasts[run.key], max_array_size)

    ordinary, after_oom = [r for r in runs if r.key not in oom], [r for r in runs if r.key in oom]
    made = arrays(ordinary, profile) + arrays(after_oom, profile.after_oom())
    return Plan(made, list(forecasts.values()))


def launch(
    study: Study,
    results: Results,
    machine: Machine,
    profile: Profile,
    own_states: Callable[[], list[RunState]],
    forecaster: Forecaster,
    retry: str | None,
    say: Callable[[str], None],
) -> tuple[list[RunState], Submission | None]:
    """Submit what is missing and not in the queue: the states before, and what was submitted.

    Raises UserError where the cluster refuses, WorkError where it doesn't answer.
    """
    with _only_one(submissions_dir(results.study_dir(study.name)), say):
        queue = scheduler.queue()
        states = cluster_states(own_states(), results, study.name, queue)
        _release(_jobs_of(queue, study.name, results), say)
        planned = plan(states, profile, forecaster, retry, scheduler.max_array_size())
        for line in planned.lines():
            say(line)
        if not planned.arrays:
            return states, None
        _check_visible(results, profile)
        return states, submit(study, planned.arrays, results, machine, profile.array_parallelism)


def cancel(study_name: str, results: Results) -> int:
    """Cancel this study's jobs of this results folder, no others; their number."""
    scheduler.require()
    jobs = _jobs_of(scheduler.queue(), study_name, results)
    # By array: tasks that a controller recovered after a crash don't answer to ids of their own.
    scheduler.cancel(sorted({queued.job.partition("_")[0] for queued in jobs}))
    return len(jobs)


def max_array_size() -> int:
    """The cluster's, or SLURM's default where there is no cluster to ask."""
    try:
        return scheduler.max_array_size()
    except WorkError:
        return DEFAULT_MAX_ARRAY_SIZE


def _jobs_of(queue: Sequence[Queued], study_name: str, results: Results) -> list[Queued]:
    submissions = read_submissions(results.study_dir(study_name))
    names = {array.name for submission in submissions for array in submission.arrays}
    return [queued for queued in queue if queued.name in names] + plain_jobs(queue, study_name, results)


def _release(jobs: Sequence[Queued], say: Callable[[str], None]) -> None:
    for queued in jobs:
        if queued.is_held_by_slurm:
            try:
                scheduler.release(queued.job)
                say(f"job {queued.job} was held by SLURM ({queued.reason}); released")
            except WorkError as error:
                say(f"warning: job {queued.job} is held by SLURM and can't be released: {error}")


def _check_visible(results: Results, profile: Profile) -> None:
    if not profile.check_results_folder:
        return
    asked = {key: getattr(profile, key) for key in ("partition", "account", "qos", "constraint")}
    options = [f"--{key}={value}" for key, value in asked.items() if value is not None]
    if scheduler.sees_folder(str(results.root.absolute()), options) is False:
        raise UserError(
            f"results folder {results.root.absolute()}: the cluster's nodes don't see it; "
            "choose one on a shared file system with --results; nothing was submitted"
        )


@contextlib.contextmanager
def _only_one(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One process at a time submits a study: the next one sees its jobs in the queue."""
    told = False
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(claim(folder))
            except Busy:
                lock = look(folder)
                if not told:
                    say(f"waiting: {(lock and lock.owner) or 'another process'} is submitting this study")
                    told = True
                time.sleep(0.5)
                continue
            yield
            return
