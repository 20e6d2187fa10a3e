"""Submission through submitit: a snapshot of the code, a record of what is in which task, one sbatch per array."""

import contextlib
import io
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import submitit
from submitit.core import utils

from benchmark.code_version import write_snapshot
from benchmark.config import Study
from benchmark.errors import UserError
from benchmark.machine import Machine
from benchmark.store import Results
from slurm import scheduler
from slurm.arrays import Array, parallelism
from slurm.submissions import Submission, SubmittedArray, job_name, new_id, submissions_dir, write_submission
from slurm.task import ArrayTask

EXECUTED = ("code", "tasks")
"""What jobs execute of a submission's folder."""


def submit(study: Study, arrays: Sequence[Array], results: Results, machine: Machine, at_once: int) -> Submission:
    """All arrays or none: where sbatch refuses one, those before it are cancelled. Raises UserError and OSError."""
    root, number = results.root.absolute(), new_id()
    folder = submissions_dir(Results(root).study_dir(study.name)) / number
    created = datetime.now(UTC).isoformat(timespec="seconds")
    submitted = [
        SubmittedArray(
            name=job_name(study.name, number, index),
            minutes=array.minutes,
            tasks=[[run.key for run in runs] for runs in array.tasks],
        )
        for index, array in enumerate(arrays)
    ]
    try:
        make_trusted(folder)
        commit = str(write_snapshot(folder / "code"))
        record = Submission(id=number, created=created, commit=commit, arrays=submitted)
        write_submission(folder, record)  # before sbatch: should this process die, the names tell whose jobs they are
        for index, (array, share) in enumerate(zip(arrays, parallelism(arrays, at_once), strict=True)):
            tasks = [
                ArrayTask(runs, root, machine, array.profile.parallel_runs, array.profile.requeue, created)
                for runs in array.tasks
            ]
            executor = _Executor(folder / "tasks" / str(index), python=array.profile.python)
            executor.update_parameters(**_parameters(array, share, submitted[index].name, folder))
            executor.wckey = array.profile.wckey
            job = executor.submit_tasks(tasks)
            submitted[index] = submitted[index].model_copy(update={"job": job})
            record = record.model_copy(update={"arrays": list(submitted)})
            write_submission(folder, record)
    except BaseException as error:
        _undo(folder, [array.name for array in submitted])
        if isinstance(error, utils.FailedJobError | utils.FailedSubmissionError):
            raise UserError(f"sbatch refused: {_refusal(str(error))}; nothing was submitted") from None
        raise
    return record


def make_trusted(folder: Path) -> None:
    """The folder of what jobs will execute: code, and pickles, which can do anything. Raises UserError where others can
    write there: then they could run theirs in our name."""
    folder.mkdir(parents=True, mode=0o755)  # others may read what was submitted
    for name in EXECUTED:
        (folder / name).mkdir(mode=0o700)
    if any(path.stat().st_mode & 0o022 for path in (folder, *(folder / name for name in EXECUTED))):
        raise UserError(
            f"{folder}: can be written by others, whatever its mode is set to, and jobs execute what lies there; choose "
            "a results folder on another file system with --results; nothing was submitted"
        )


def trust_check(folder: Path) -> list[str]:
    """Lines of shell by which a job executes nothing that others could have written since it was submitted."""
    paths = [folder, *(folder / name for name in EXECUTED)]
    ours = f'find -H {shlex.join(map(str, paths))} -maxdepth 0 -uid "$(id -u)" ! -perm /022'
    refusal = shlex.quote(f"{folder}: is not this user's alone to write; nothing is executed from there")
    return [f'[ "$({ours} | wc -l)" -eq {len(paths)} ] || {{ echo {refusal} >&2; exit 1; }}']


def _undo(folder: Path, names: Sequence[str]) -> None:
    """Nothing half-submitted."""
    with contextlib.suppress(Exception):
        jobs = {queued.job.partition("_")[0] for queued in scheduler.queue() if queued.name in names}
        scheduler.cancel(sorted(jobs))
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """A job may submit jobs, and these inherit nothing of its own; SLURM_CONF says which cluster it is."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith(("SLURM_", "SRUN_", "SBATCH_"))}
    inherited.pop("SLURM_CONF", None)
    for name in inherited:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inherited)


def _parameters(array: Array, share: int, name: str, folder: Path) -> dict[str, Any]:
    profile = array.profile
    path = shlex.quote(str(folder / "code"))
    return {
        "job_name": name,
        "time": array.minutes,
        "cpus_per_task": profile.cpus,
        "array_parallelism": share,
        "signal_delay_s": profile.signal_seconds,
        "stderr_to_stdout": True,
        "setup": [
            *trust_check(folder),
            *profile.setup,
            "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",  # srun asks for one since SLURM 22.05
            f"export PYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}}",
            f"cd {path} || exit 1",
        ],
        "additional_parameters": {**profile.sbatch, ("requeue" if profile.requeue else "no-requeue"): True},
        **({"gpus_per_node": profile.gpus} if profile.gpus else {}),
        **({"mem": f"{round(1024 * profile.memory_gb)}M"} if profile.memory_gb else {}),
        **{
            key: value
            for key in ("partition", "account", "qos", "constraint")
            if (value := getattr(profile, key)) is not None
        },
    }


class _Executor(submitit.SlurmExecutor):
    """submitit's, which can't leave --wckey out and makes every array with an executor of its own."""

    wckey: str | None = None

    def submit_tasks(self, tasks: Sequence[ArrayTask]) -> str:
        """The array's job id. One pickle per task, which a task that starts at once waits for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        pickles = []
        for task in tasks:
            submission = utils.DelayedSubmission(task)
            submission.set_timeout(self.parameters["time"], self.max_num_timeout)
            pickles.append(self.folder / f"{uuid.uuid4().hex}.pkl")
            submission.dump(pickles[-1])
        if len(tasks) > 1:
            self.parameters["map_count"] = len(tasks)
        with _outside_of_jobs(), contextlib.redirect_stderr(io.StringIO()):  # where submitit repeats what sbatch says
            job = self._submit_command(self._submitit_command_str).job_id
        for number, pickle in enumerate(pickles):
            task_id = f"{job}_{number}" if len(tasks) > 1 else job
            os.replace(pickle, utils.JobPaths(self.folder, task_id).submitted_pickle)
        return job

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        text = super()._make_submission_file_text(command, uid)
        wckey = f"#SBATCH --wckey={shlex.quote(self.wckey)}\n" if self.wckey else ""
        return re.sub(r"^#SBATCH --wckey=.*\n", lambda _: wckey, text, flags=re.MULTILINE)


def _refusal(text: str) -> str:
    """What sbatch said, in one line."""
    said = [line.partition("error: ")[2].strip() for line in text.splitlines() if "sbatch: error: " in line]
    return "; ".join(said) or " ".join(text.split())[:300]
