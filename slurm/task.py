"""What a task of a job array does: its runs, one after another or side by side, until they are done or time is up.

python -m slurm.task STUDY      a worker of a plain job array (slurm/sweep.sbatch): takes whatever is missing
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.config import Run, expand
from benchmark.endings import Ending, write_ending
from benchmark.errors import Parser, WorkError, exit_code
from benchmark.lock import is_held, this_job
from benchmark.machine import Machine, add_machine_options, machine_from, positive
from benchmark.progress import read_progress
from benchmark.store import Results
from benchmark.workers import Pool
from slurm import scheduler

# torch is loaded by the processes of the runs: a task listens to signals before that.

SECONDS_NEAR_LIMIT = 300


@dataclass(frozen=True)
class ArrayTask:
    """A task of a submitted array; pickled, with its runs, when it is submitted."""

    runs: tuple[Run, ...]
    results: Path
    machine: Machine
    parallel_runs: int
    requeue: bool
    submitted: str
    """ISO time, UTC: rows that failed before don't count."""

    def __call__(self) -> None:
        code = exit_code(lambda: self._work())
        if code:
            raise SystemExit(code)

    def _work(self) -> int:
        crew = Crew(self.runs, Results(self.results), self.machine, self.parallel_runs, self.requeue, self.submitted)
        return crew.work()

    def checkpoint(self) -> Any:
        """For submitit, which listens to signals until this task does."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass
class Crew:
    """Carries out runs inside a SLURM job."""

    runs: Sequence[Run]
    results: Results
    machine: Machine
    parallel_runs: int
    requeue: bool
    retry_before: str | None = None
    waits_for_others: bool = True

    def work(self) -> int:
        """The exit code. Puts the job back into the queue where SLURM says that time is up."""
        job = this_job()
        self._begun = time.time()
        say(f"job {job or '-'}: {len(self.runs)} runs")
        pool = Pool(
            self.results, self.machine, self.parallel_runs, num_visible_gpus(), self.retry_before, self.waits_for_others
        )
        pool.on_start = lambda run: say(f"{run.key}  started")
        pool.on_end = lambda outcome: say(f"{outcome.run.key}  {outcome.state}  {outcome.reason}".rstrip())
        outcomes = pool.carry_out(self.runs)
        if pool.stopped_by is not None:
            return self._stopped(pool.stopped_by, job)
        return 1 if any(outcome.state in ("failed", "crashed") for outcome in outcomes) else 0

    def _stopped(self, number: int, job: str | None) -> int:
        unfinished = [run for run in self.runs if self.results.row(run.key) is None]
        ours = [run for run in unfinished if not is_held(self.results.run_dir(run.key))]
        if not unfinished:
            return 0
        if number != signal.SIGUSR2 or job is None:
            self._note(ours, Ending("cancelled", f"stopped by {signal.Signals(number).name}", job=job))
            return 1
        if not self.requeue:
            self._note(ours, Ending("time_limit", "the profile wants no requeue", job=job))
            return 1
        left = scheduler.seconds_left(job)
        if left is not None and left < SECONDS_NEAR_LIMIT and not self._got_anywhere():
            self._note(ours, Ending("time_limit", "not a step was done within it", final=True, job=job))
            return 1
        try:
            scheduler.requeue(job)
        except WorkError as error:
            self._note(ours, Ending("time_limit", f"could not be put back into the queue ({error})", job=job))
            return 1
        say(f"time is up: {len(unfinished)} runs go on when job {job} starts again")
        return 0

    def _got_anywhere(self) -> bool:
        """Whether this job did a step of any of its runs, or waited for another process that might have."""
        for run in self.runs:
            folder = self.results.run_dir(run.key)
            said = read_progress(folder)
            if (said and said["updated"] >= self._begun) or is_held(folder):
                return True
        return False

    def _note(self, runs: Sequence[Run], ending: Ending) -> None:
        """For runs that were under way; the others just are not done."""
        say(str(ending))
        for run in runs:
            if self.results.run_dir(run.key).is_dir():
                write_ending(self.results.run_dir(run.key), ending)


def num_visible_gpus() -> int:
    """GPUs that SLURM gave to this task."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return len(visible.split(",")) if visible.strip() not in ("", "-1", "NoDevFiles") else 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # it would end the task while it starts
    parser = Parser(prog="python -m slurm.task", description=__doc__)
    parser.add_argument("study", help="a packaged study or a YAML file")
    parser.add_argument("--workers", type=positive, default=1, help="runs side by side in each task (default: 1)")
    add_machine_options(parser)
    arguments = parser.parse_args()
    machine = machine_from(arguments)
    from benchmark.run import resolved_study

    study, results = resolved_study(arguments.study), Results(arguments.results)
    results.create()
    results.write_study(study)
    runs = expand(study)
    first = int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)) % len(runs)
    missing = [run for run in runs[first:] + runs[:first] if results.row(run.key) is None]
    crew = Crew(missing, results, machine, arguments.workers, requeue=True, waits_for_others=False)
    return crew.work()


if __name__ == "__main__":
    sys.exit(exit_code(main))
