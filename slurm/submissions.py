"""What was submitted: one folder per submission with the grid, the code, which run is in which task, and the tasks' logs.

    results/<study>/submissions/<id>/submission.json, study.yaml, code/, logs/

Jobs are known by their names, which hold the submission's id: ids of jobs come back when a controller loses its state.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from benchmark.store import set_aside, write_atomically
from benchmark.strict import Strict


class SubmittedArray(Strict):
    name: str
    """Of the job."""
    minutes: int
    tasks: list[list[str]]
    """The keys of each task's runs."""
    job: str | None = None
    """None until sbatch answered."""


class Submission(Strict):
    id: str
    created: str
    commit: str
    arrays: list[SubmittedArray]


def new_id() -> str:
    """Sorts by time: `20261124-034500-1f3a9c`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def job_name(study: str, submission: str, array: int) -> str:
    return f"tutti-{study}-{submission}-{array}"


def submissions_dir(study_dir: Path) -> Path:
    return study_dir / "submissions"


def write_submission(folder: Path, submission: Submission) -> None:
    text = submission.model_dump_json() + "\n"
    write_atomically(folder / "submission.json", lambda file: file.write(text.encode()))


def read_submissions(study_dir: Path) -> list[Submission]:
    """The latest last. Damaged ones are set aside: what they submitted is then known by its locks and rows alone."""
    return list(_read(sorted(submissions_dir(study_dir).glob("*/submission.json"))))


def _read(paths: Sequence[Path]) -> Iterator[Submission]:
    for path in paths:
        try:
            yield Submission.model_validate_json(path.read_bytes())
        except ValidationError:
            set_aside(path, "is no record of a submission")
        except OSError:
            continue


@dataclass(frozen=True)
class Place:
    """Where a run was submitted to."""

    submission: Submission
    array: SubmittedArray
    task: int

    @property
    def job(self) -> str | None:
        """As squeue shows it."""
        if self.array.job is None:
            return None
        return f"{self.array.job}_{self.task}" if len(self.array.tasks) > 1 else self.array.job


def places(submissions: Sequence[Submission]) -> dict[str, Place]:
    """The last place of each run, by its key."""
    return {
        key: Place(submission, array, task)
        for submission in submissions
        for array in submission.arrays
        for task, keys in enumerate(array.tasks)
        for key in keys
    }
