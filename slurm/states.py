"""What the cluster adds to the state of runs: which wait in the queue, and what became of those that are gone."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.config import load_study
from benchmark.endings import Ending, write_ending
from benchmark.errors import UserError, WorkError
from benchmark.states import FAILED, FINISHED, INTERRUPTED, QUEUED, RUNNING, RunState, with_state
from benchmark.store import Results, warn
from slurm import scheduler
from slurm.scheduler import Ended, Queued
from slurm.submissions import Place, places, read_submissions

SCRIPT = "sweep.sbatch"
FLAGS = ("--offline",)
"""Options of its command that take no value."""


def cluster_states(
    states: Sequence[RunState], results: Results, study_name: str, queue: Sequence[Queued]
) -> list[RunState]:
    """The states with the queue's word on runs that don't work, and accounting's on those that left the queue."""
    submitted = places(read_submissions(results.study_dir(study_name)))
    waiting = {(queued.name, queued.task): queued for queued in queue}
    known, lost = [], dict[int, Place]()
    for index, state in enumerate(states):
        place = submitted.get(state.run.key)
        queued = waiting.get((place.array.name, place.task)) if place else None
        if queued is not None and state.state not in (FINISHED, RUNNING):
            state = with_state(state, QUEUED, _describe(queued))
        elif place is not None and state.state not in (FINISHED, RUNNING, FAILED) and state.why is None:
            lost[index] = place
        known.append(state)
    for index, (ending, is_certain) in _explain(lost).items():
        state = known[index]
        if is_certain and results.run_dir(state.run.key).is_dir():
            write_ending(results.run_dir(state.run.key), ending)  # a report tells it too
        detail = ", ".join(part for part in (str(ending), state.detail) if part)
        known[index] = RunState(state.run, FAILED if ending.final else INTERRUPTED, detail, ending.why)
    return known


def plain_jobs(queue: Sequence[Queued], study_name: str, results: Results) -> list[Queued]:
    """Tasks of `sbatch slurm/sweep.sbatch STUDY` with this study and this results folder."""
    return [queued for queued in queue if _sweeps(queued, study_name, results)]


def _sweeps(queued: Queued, study_name: str, results: Results) -> bool:
    script, found, arguments = queued.command.partition(f"{SCRIPT} ")
    if not found or not re.fullmatch(r"(/.*|\S+)?/|", script):
        return False
    study, named = _study_and_results(arguments)
    folder = Path(queued.folder)
    if (folder / named).resolve() != results.root.resolve():
        return False
    try:
        return load_study(str(folder / study) if study.endswith((".yaml", ".yml")) else study).name == study_name
    except UserError:
        return False


def _study_and_results(arguments: str) -> tuple[str, str]:
    """Of a command line as squeue shows it: without quotes, so that blanks in names have to be guessed."""
    first, *options = re.split(r"(?:^| )(?=--)", arguments)
    study, named = first.strip(), "results"
    for option in options:
        name, value = re.fullmatch(r"(--[a-z-]+)[ =]?(.*)", option, re.DOTALL).groups()  # type: ignore[union-attr]
        if name in FLAGS:
            value, rest = "", value
        elif not study:  # it stands behind this option's value
            value, _, rest = value.rpartition(" ") if " " in value else (value, "", "")
        else:
            rest = ""
        study = study or rest.strip()
        named = value.strip() if name == "--results" else named
    return study, named


def _describe(queued: Queued) -> str:
    if queued.is_held_by_slurm:
        return f"job {queued.job} is held by SLURM ({queued.reason}); the same sweep releases it"
    return f"job {queued.job} {'runs' if queued.runs else f'waits ({queued.reason})'}"


def _explain(lost: dict[int, Place]) -> dict[int, tuple[Ending, bool]]:
    """What became of tasks that left no word and are no longer in the queue, and whether that is accounting's word."""
    if not lost:
        return {}
    since = min(place.submission.created for place in lost.values())[:10]
    remembered = scheduler.ended(sorted({place.array.name for place in lost.values()}), since) or []
    by_task = {(ended.name, task): ended for ended in remembered for task in ended.tasks}
    endings: dict[int, tuple[Ending, bool]] = {}
    for index, place in lost.items():
        ended = by_task.get((place.array.name, place.task))
        if ended is not None and ended.state in scheduler.ENDED:  # else it lags behind the queue
            endings[index] = _ending(ended, place.job), True
        elif place.job is not None:
            endings[index] = Ending("error", f"job {place.job} left the queue without a word", job=place.job), False
    return endings


def _ending(ended: Ended, job: str | None) -> Ending:
    if ended.state == "OUT_OF_MEMORY":
        return Ending("oom_host", final=True, job=job)
    if ended.state in ("TIMEOUT", "DEADLINE"):
        return Ending("time_limit", job=job)
    if ended.state in ("NODE_FAIL", "BOOT_FAIL"):
        return Ending("node_failure", ended.nodes, job=job)
    if ended.state in ("CANCELLED", "PREEMPTED", "REVOKED"):
        return Ending("cancelled", f"job {job} was {ended.state.lower()}", job=job)
    if ended.exit_code == "0:53":
        return Ending("error", f"SLURM can't write the log of job {job}: does {ended.nodes} see the results?", job=job)
    return Ending("error", f"job {job} is {ended.state} with exit code {ended.exit_code}", job=job)


def ask_queue(study_name: str, results: Results) -> list[Queued] | None:
    """The queue, where there is one that answers; says so where jobs of the study might wait in it."""
    try:
        scheduler.require()
        return scheduler.queue()
    except (UserError, WorkError) as error:
        if read_submissions(results.study_dir(study_name)):
            warn(f"what waits or runs on the cluster is not known: {error}")
        return None
