"""A small study's runs as if they had been submitted, and texts that are no record of anything."""

from collections.abc import Sequence

from simulated_study import small_study

from benchmark.config import Run, expand
from benchmark.store import Results
from slurm.submissions import Submission, SubmittedArray, submissions_dir, write_submission

RUNS = expand(small_study(methods=["single"], seeds=6))
RUN = RUNS[0]
BROKEN_JSON = [b"", b"{", b"null", b"[]", b"5", b'"error"', b"\xff\xfe", b"\0" * 50, b"[" * 100_000]


def array(name: str, *tasks: Sequence[Run], job: str | None = "12") -> SubmittedArray:
    return SubmittedArray(name=name, minutes=60, tasks=[[run.key for run in task] for task in tasks], job=job)


def submitted(results: Results, *arrays: SubmittedArray, number: str = "20260102-000000-aaaaaa") -> Submission:
    submission = Submission(id=number, created="2026-01-02T03:04:05+00:00", commit="abc", arrays=list(arrays))
    write_submission(submissions_dir(results.study_dir("simulated")) / number, submission)
    return submission
