"""What SLURM's programs say, played by scripts."""

import json
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from submitted_runs import RUN, RUNS, array, submitted

from benchmark.errors import UserError, WorkError
from benchmark.store import Results
from slurm import scheduler
from slurm.states import ask_queue

SAID = {
    "stage": "main",
    "epoch": 3,
    "num_epochs": 10,
    "share": 0.254,
    "loss": 0.5,
    "accuracy": 0.75,
    "images_per_second": 1234.0,
    "seconds_left": 62.0,
    "epoch_ended": True,
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


@pytest.fixture
def folder(results: Results) -> Path:
    """Of RUN."""
    path = results.run_dir(RUN.key)
    path.mkdir(parents=True)
    return path


def say(folder: Path, **changes: Any) -> None:
    (folder / "progress.json").write_text(json.dumps(SAID | {"updated": time.time()} | changes))


# What SLURM's programs say, played by scripts


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """A program of SLURM's that does what is given; the file with its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for needed in ("cat", "sleep"):
        (folder / needed).symlink_to(shutil.which(needed) or "")
    monkeypatch.setenv("PATH", str(folder))  # no real SLURM is asked

    def write(name: str, does: str) -> Path:
        path, asked = folder / name, folder / f"{name}.asked"
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{asked}"\n{does}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return asked

    return write


Program = Callable[[str, str], Path]


def test_queue_is_read_with_blanks_and_separators_in_names(program: Program) -> None:
    u = "\\037"
    lines = [
        f"12_3{u}tutti-a-0{u}RUNNING{u}None{u}/my home/sweep.sbatch a|b{u}/my home",
        f"13{u}other{u}PENDING{u}(launch failed requeued held){u}(null){u}/",
        f"14_[2-4]{u}x{u}PENDING{u}Priority{u}{u}/",
        f"15{u}gone{u}COMPLETED{u}None{u}c{u}/",
        "slurm_load_jobs: warning",
        f"16_0{u}failing{u}COMPLETING{u}None{u}c{u}/",
    ]
    program("squeue", "printf '" + "\\n".join(lines) + "\\n'")
    found = scheduler.queue()
    assert [(job.job, job.task, job.name) for job in found] == [
        ("12_3", 3, "tutti-a-0"), ("13", 0, "other"), ("14_[2-4]", 2, "x"), ("16_0", 0, "failing"),
    ]  # fmt: skip
    assert (found[0].command, found[0].folder) == ("/my home/sweep.sbatch a|b", "/my home")
    assert found[1].is_held_by_slurm
    assert [job.runs for job in found] == [True, False, False, True]


def test_jobs_that_ended_are_not_in_the_queue(program: Program) -> None:
    lines = "".join(f"{number}\\037n\\037{state}\\037r\\037c\\037/\\n" for number, state in enumerate(scheduler.ENDED))
    program("squeue", f"printf '{lines}'")
    assert scheduler.queue() == []


def test_accounting_is_read_by_its_columns(program: Program) -> None:
    lines = [
        "12_0|a|CANCELLED by 1000|0:15|node1",
        "12_[1-3,5%2]|a|PENDING|0:0|None assigned",
        "13|b|NODE_FAIL|1:0|node[1-2]",
        "14|b|OUT_OF_MEMORY|0:125|node1",
        "nonsense",
        "15|b||0:0|",
    ]
    asked = program("sacct", "cat <<'END'\n" + "\n".join(lines) + "\nEND")
    found = scheduler.ended(["a", "b"], "2026-01-02")
    assert found is not None
    assert [(one.state, list(one.tasks), one.exit_code) for one in found] == [
        ("CANCELLED", [0], "0:15"), ("PENDING", [1, 2, 3, 5], "0:0"), ("NODE_FAIL", [0], "1:0"),
        ("OUT_OF_MEMORY", [0], "0:125"),
    ]  # fmt: skip
    assert found[2].nodes == "node[1-2]"
    words = asked.read_text().split("\n")
    assert words[words.index("--name") + 1] == "a,b"
    assert words[words.index("-S") + 1] == "2026-01-02"


def test_there_is_no_accounting_where_sacct_is_missing_or_refuses(program: Program) -> None:
    assert scheduler.ended(["a"], "2026-01-02") is None
    program("sacct", "echo 'sacct: error: Slurm accounting storage is disabled' >&2; exit 1")
    assert scheduler.ended(["a"], "2026-01-02") is None


@pytest.mark.parametrize(
    ("job", "tasks"),
    [
        ("12", [0]),
        ("12_3", [3]),
        ("12_[3]", [3]),
        ("12_[0-2]", [0, 1, 2]),
        ("12_[2-4,7%2]", [2, 3, 4, 7]),
        ("12_[1,3,5-6]", [1, 3, 5, 6]),
        ("12_[0-1%1]", [0, 1]),
        ("12.batch", [0]),
        ("12+1", [0]),
        ("", [0]),
    ],
)
def test_tasks_are_read_from_a_job_id(job: str, tasks: list[int]) -> None:
    assert list(scheduler.tasks_of(job)) == tasks


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00", 0),
        ("1:30", 90),
        ("59:59", 3599),
        ("2:03:04", 7384),
        ("1-02:03:04", 93784),
        ("10-00:00:00", 864000),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_time_left_is_read_as_slurm_writes_it(text: str, seconds: float | None, program: Program) -> None:
    program("squeue", f"echo '{text}'")
    assert scheduler.seconds_left("12_3") == seconds


def test_time_left_is_unknown_where_slurm_does_not_answer(program: Program) -> None:
    program("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert scheduler.seconds_left("12_3") is None


def test_size_of_arrays_is_the_clusters_or_the_default(program: Program) -> None:
    program("scontrol", "printf 'MaxArraySize            = 2501\\nMaxDBDMsgs = 5\\n'")
    assert scheduler.max_array_size() == 2501
    program("scontrol", "printf 'Nothing = 5\\n'")
    assert scheduler.max_array_size() == 1001
    program("scontrol", "printf 'MaxArraySize = 0\\n'")
    assert scheduler.max_array_size() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("\n \n", ""),
        ("squeue: error: no\n", "no"),
        ("scancel: error: first\nscancel: error: Invalid job id 5\n\n", "Invalid job id 5"),
        ("slurm_load_jobs error: Unable to contact", "slurm_load_jobs error: Unable to contact"),
        ("sbatch: Batch job refused", "Batch job refused"),
    ],
)
def test_last_line_is_what_slurm_says_without_its_name(text: str, said: str) -> None:
    assert scheduler.last_line(text) == said


def test_refusal_missing_program_and_silence_are_work_that_failed(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkError, match=r"squeue can't be started"):
        scheduler.queue()
    program("squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(WorkError, match=r"^squeue: Unable to contact slurm controller$"):
        scheduler.queue()
    program("squeue", "exit 3")
    with pytest.raises(WorkError, match=r"^squeue: exit code 3$"):
        scheduler.queue()
    program("squeue", "exec sleep 60")
    with pytest.raises(WorkError, match=r"squeue did not answer within 0.05 s"):
        scheduler._ask("squeue", patience=0.05)


def test_many_jobs_are_cancelled_in_portions_and_none_is_not_asked(program: Program) -> None:
    asked = program("scancel", 'echo -- >> "$0.asked"')
    scheduler.cancel([])
    assert not asked.exists()
    jobs = [str(number) for number in range(1201)]
    scheduler.cancel(jobs)
    words = asked.read_text().split()
    assert [word for word in words if word != "--"] == jobs
    assert words.count("--") == 3


def test_machine_without_slurm_is_told(program: Program, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="sbatch is not on the PATH"):
        scheduler.require()
    assert ask_queue("simulated", results) is None
    assert capsys.readouterr().err == ""
    submitted(results, array("a", RUNS[:1]))
    assert ask_queue("simulated", results) is None
    assert "what waits or runs on the cluster is not known" in capsys.readouterr().err
    for name in ("sbatch", "scontrol", "scancel", "squeue"):
        program(name, "exit 0")
    assert ask_queue("simulated", results) == []
