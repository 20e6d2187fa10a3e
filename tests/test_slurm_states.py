"""What a cluster's queue and accounting add to the state of runs."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from simulated_study import done_row, failed_row, small_study
from submitted_runs import BROKEN_JSON, RUN, RUNS, array, submitted

from benchmark.config import Run
from benchmark.endings import TEXTS, Ending, Why, read_ending, write_ending
from benchmark.lock import claim
from benchmark.states import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    NOT_SUBMITTED,
    QUEUED,
    RUNNING,
    RunState,
    run_states,
)
from benchmark.store import Results
from slurm import scheduler
from slurm import states as cluster
from slurm.scheduler import Ended, Queued
from slurm.states import cluster_states, plain_jobs
from slurm.submissions import (
    job_name,
    new_id,
    places,
    read_submissions,
    submissions_dir,
)

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


# Submissions, and where each run is


def test_submissions_are_read_as_written_the_latest_last(results: Results) -> None:
    later = submitted(results, array("b", RUNS[:2]), number="20260103-000000-000000")
    first = submitted(results, array("a", RUNS[:1], job=None))
    assert read_submissions(results.study_dir("simulated")) == [first, later]
    assert read_submissions(results.study_dir("other")) == []


@pytest.mark.parametrize(
    "content", [*BROKEN_JSON, b'{"id": "x"}', b'{"id": 5, "created": "", "commit": "", "arrays": []}']
)
def test_damaged_submission_is_set_aside(content: bytes, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    whole = submitted(results, array("a", RUNS[:1]))
    path = submissions_dir(results.study_dir("simulated")) / "20260101-000000-bbbbbb" / "submission.json"
    path.parent.mkdir()
    path.write_bytes(content)
    assert read_submissions(results.study_dir("simulated")) == [whole]
    assert "is no record of a submission" in capsys.readouterr().err
    assert path.with_name("submission.json.damaged").read_bytes() == content


def test_names_of_submissions_sort_by_time_and_name_jobs() -> None:
    first, second = new_id(), new_id()
    assert first != second
    assert first[:15] <= second[:15]
    assert job_name("my.study", first, 2) == f"tutti-my.study-{first}-2"


def test_place_of_a_run_is_the_last_it_was_submitted_to(results: Results) -> None:
    first = submitted(results, array("a", RUNS[:1], RUNS[1:3]), array("b", RUNS[3:4], job="13"))
    second = submitted(results, array("c", RUNS[:1], job=None), number="20260103-000000-000000")
    found = places([first, second])
    assert {run.seed: (found[run.key].array.name, found[run.key].task) for run in RUNS if run.key in found} == {
        0: ("c", 0), 1: ("a", 1), 2: ("a", 1), 3: ("b", 0),
    }  # fmt: skip
    assert [found[run.key].job for run in RUNS[:4]] == [None, "12_1", "12_1", "13"]


# The queue's word


def queued(name: str = "a", task: int = 0, state: str = "PENDING", reason: str = "Priority", **changes: Any) -> Queued:
    told = {"job": f"12_{task}", "command": "", "folder": "/"} | changes
    return Queued(task=task, name=name, state=state, reason=reason, **told)


@pytest.fixture
def accounting(monkeypatch: pytest.MonkeyPatch) -> list[Ended]:
    """What sacct remembers."""
    remembered: list[Ended] = []
    monkeypatch.setattr(scheduler, "ended", lambda names, since: remembered)
    return remembered


def states_with(results: Results, queue: Sequence[Queued], runs: Sequence[Run] = RUNS[:1]) -> list[RunState]:
    rows = {run.key: row for run in runs if (row := results.row(run.key))}
    return cluster_states(list(run_states(runs, results, rows)), results, "simulated", queue)


def test_run_whose_task_waits_is_queued(results: Results, accounting: list[Ended]) -> None:
    submitted(results, array("a", RUNS[:1], RUNS[1:3]))
    states = states_with(results, [queued(task=1)], RUNS[1:4])
    assert [state.state for state in states] == [QUEUED, QUEUED, NOT_SUBMITTED]
    assert states[0].detail == "job 12_1 waits (Priority)"


def test_run_whose_task_began_but_which_itself_did_not_is_queued(results: Results, accounting: list[Ended]) -> None:
    submitted(results, array("a", RUNS[:1]))
    [state] = states_with(results, [queued(state="RUNNING", reason="None")])
    assert (state.state, state.detail) == (QUEUED, "job 12_0 runs")


def test_run_that_waits_again_is_no_longer_what_it_was(results: Results, folder: Path, accounting: list[Ended]) -> None:
    submitted(results, array("a", RUNS[:1]))
    write_ending(folder, Ending("oom_host", final=True))
    assert states_with(results, [queued()]) == [RunState(RUN, QUEUED, "job 12_0 waits (Priority)")]


def test_jobs_of_other_names_or_tasks_are_not_this_runs(results: Results, accounting: list[Ended]) -> None:
    submitted(results, array("a", RUNS[:1], job=None))
    states = states_with(results, [queued(name="b"), queued(task=1), queued(name="tutti")])
    assert states == [RunState(RUN, NOT_SUBMITTED)]


def test_queue_does_not_hide_what_runs_is_finished_or_began(
    results: Results, folder: Path, accounting: list[Ended]
) -> None:
    submitted(results, array("a", RUNS[:1]))
    with claim(folder):
        assert states_with(results, [queued(state="RUNNING")])[0].state == RUNNING
    assert states_with(results, [queued()])[0].state == QUEUED
    results.write_row(failed_row(RUN, "it broke"))
    assert states_with(results, [queued()])[0].state == QUEUED
    assert states_with(results, [])[0].state == FAILED
    results.write_row(done_row(RUN, {"accuracy": 0.5}))
    assert states_with(results, [queued()])[0].state == FINISHED


def test_job_that_slurm_holds_is_told(results: Results, accounting: list[Ended]) -> None:
    submitted(results, array("a", RUNS[:1]))
    held = queued(reason="launch failed requeued held")
    assert held.is_held_by_slurm
    assert not queued(reason="JobHeldUser").is_held_by_slurm
    assert not queued(state="RUNNING", reason="launch failed requeued held").is_held_by_slurm
    assert "is held by SLURM (launch failed requeued held)" in states_with(results, [held])[0].detail


# Accounting's word

SACCT = {
    "OUT_OF_MEMORY": (FAILED, "oom_host"),
    "TIMEOUT": (INTERRUPTED, "time_limit"),
    "DEADLINE": (INTERRUPTED, "time_limit"),
    "NODE_FAIL": (INTERRUPTED, "node_failure"),
    "BOOT_FAIL": (INTERRUPTED, "node_failure"),
    "CANCELLED": (INTERRUPTED, "cancelled"),
    "PREEMPTED": (INTERRUPTED, "cancelled"),
    "REVOKED": (INTERRUPTED, "cancelled"),
    "FAILED": (INTERRUPTED, "error"),
    "COMPLETED": (INTERRUPTED, "error"),
}


def remember(state: str, name: str = "a", tasks: Sequence[int] = (0,), exit_code: str = "0:0") -> Ended:
    return Ended("12_0", tasks, name, state, exit_code, "node[1-2]")


def test_every_state_in_which_jobs_end_is_tested() -> None:
    assert set(SACCT) == scheduler.ENDED


@pytest.mark.parametrize(("ended", "expected"), SACCT.items())
def test_run_that_left_no_word_ended_as_accounting_says(
    ended: str, expected: tuple[str, Why], results: Results, folder: Path, accounting: list[Ended]
) -> None:
    submitted(results, array("a", RUNS[:1], RUNS[1:2]))
    accounting.append(remember(ended))
    [state] = states_with(results, [])
    assert (state.state, state.why) == expected
    assert state.detail.startswith(TEXTS[expected[1]])
    kept = read_ending(folder)
    assert kept is not None
    assert (kept.why, kept.final, kept.job) == (expected[1], expected[0] == FAILED, "12_0")
    accounting.clear()
    assert states_with(results, [])[0].why == expected[1], "not remembered"


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "RESIZING"])
def test_accounting_that_lags_behind_the_queue_is_no_last_word(
    state: str, results: Results, folder: Path, accounting: list[Ended]
) -> None:
    """What is kept is never asked for again."""
    submitted(results, array("a", RUNS[:1], RUNS[1:2]))
    accounting.append(remember(state))
    assert states_with(results, [])[0].state != FAILED
    accounting[:] = [remember("OUT_OF_MEMORY")]
    assert (states_with(results, [])[0].state, states_with(results, [])[0].why) == (FAILED, "oom_host")


def test_texts_of_accounting_tell_job_and_node() -> None:
    def text(state: str, exit_code: str = "0:0") -> str:
        return str(cluster._ending(remember(state, exit_code=exit_code), "12_0"))

    assert text("NODE_FAIL") == "node failure: node[1-2]"
    assert text("CANCELLED") == "cancelled: job 12_0 was cancelled"
    assert text("PREEMPTED") == "cancelled: job 12_0 was preempted"
    assert text("FAILED", "1:0") == "error: job 12_0 is FAILED with exit code 1:0"
    assert text("FAILED", "0:53") == "error: SLURM can't write the log of job 12_0: does node[1-2] see the results?"


def test_accounting_is_matched_by_name_and_task_and_its_last_word_counts(
    results: Results, accounting: list[Ended]
) -> None:
    submitted(results, array("a", RUNS[:1], RUNS[1:2], RUNS[2:3]))
    accounting += [remember("OUT_OF_MEMORY", "b"), remember("NODE_FAIL", tasks=[0]), remember("TIMEOUT", tasks=[0, 2])]
    states = states_with(results, [], RUNS[:4])
    assert [state.why for state in states] == ["time_limit", "error", "time_limit", None]
    assert states[1].detail == "error: job 12_1 left the queue without a word"
    assert states[3].state == NOT_SUBMITTED
    assert not results.run_dir(RUNS[0].key).exists(), "a run that never began has no folder"


def test_without_accounting_a_job_left_the_queue_without_a_word(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "ended", lambda names, since: None)
    submitted(results, array("a", RUNS[:1]), array("b", RUNS[1:2], job=None))
    known, never = states_with(results, [], RUNS[:2])
    assert (known.state, known.why) == (INTERRUPTED, "error")
    assert known.detail == "error: job 12 left the queue without a word"
    assert never == RunState(RUNS[1], NOT_SUBMITTED)


def test_runs_own_word_is_not_overruled_by_accounting(results: Results, folder: Path, accounting: list[Ended]) -> None:
    submitted(results, array("a", RUNS[:1]))
    accounting.append(remember("TIMEOUT"))
    write_ending(folder, Ending("oom_device", final=True))
    assert states_with(results, [])[0].why == "oom_device"
    write_ending(folder, Ending("cancelled"))
    assert states_with(results, [])[0].why == "cancelled"


def test_accounting_is_not_asked_where_every_run_left_its_word(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "ended", lambda *_: pytest.fail("asked"))
    submitted(results, array("a", RUNS[:1], RUNS[1:2]))
    results.write_row(done_row(RUN, {"accuracy": 0.5}))
    assert states_with(results, [queued(task=1)], RUNS[:3])[1].state == QUEUED


def test_interrupted_run_tells_how_far_it_was(results: Results, folder: Path, accounting: list[Ended]) -> None:
    submitted(results, array("a", RUNS[:1]))
    say(folder)
    accounting.append(remember("NODE_FAIL"))
    assert states_with(results, [])[0].detail == "node failure: node[1-2], at 25 %"


# Tasks of slurm/sweep.sbatch


@pytest.fixture
def plain(tmp_path: Path) -> Callable[..., bool]:
    """Whether a job with this command, submitted in `home`, is one of the study and `home/results`."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)

    def is_ours(command: str, folder: str | Path = home, study: str = "quickstart", at: str = "home/results") -> bool:
        job = Queued("5_0", 0, "tutti", command.replace("HOME", str(home)), str(folder), "PENDING", "Priority")
        return plain_jobs([job], study, Results(tmp_path / at)) == [job]

    return is_ours


@pytest.mark.parametrize(
    "command",
    [
        "HOME/slurm/sweep.sbatch quickstart",
        "slurm/sweep.sbatch quickstart",
        "sweep.sbatch quickstart --results results",
        "HOME/slurm/sweep.sbatch quickstart --results HOME/results",
        "HOME/slurm/sweep.sbatch quickstart --results=HOME/results",
        "HOME/slurm/sweep.sbatch quickstart --results HOME/results/",
        "HOME/slurm/sweep.sbatch quickstart --results ./results",
        "HOME/slurm/sweep.sbatch quickstart --results ../home/results",
        "HOME/slurm/sweep.sbatch quickstart --workers 2 --results HOME/results --offline",
        "HOME/slurm/sweep.sbatch quickstart --workers 2 --offline",
        "HOME/slurm/sweep.sbatch --results HOME/results quickstart",
        "HOME/slurm/sweep.sbatch --offline quickstart",
    ],
)
def test_plain_job_of_this_study_and_folder_is_recognised(command: str, plain: Callable[..., bool]) -> None:
    assert plain(command)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "HOME/slurm/sweep.sbatch",
        "HOME/slurm/other.sbatch quickstart",
        "HOME/slurm/sweep.sbatch.old quickstart",
        "HOME/slurm/sweep.sbatch cifar10-small",
        "HOME/slurm/sweep.sbatch unheard-of",
        "HOME/slurm/sweep.sbatch none.yaml",
        "HOME/slurm/sweep.sbatch quickstart --results other",
        "HOME/slurm/sweep.sbatch quickstart --results=other",
        "HOME/slurm/sweep.sbatch quickstart --results results2",
        "HOME/slurm/sweep.sbatch quickstart --results HOME/results/inner",
        "HOME/slurm/sweep.sbatch quickstart --results HOME",
        "sh -c HOME/slurm/sweep.sbatch quickstart",
        "vim sweep.sbatch",
    ],
)
def test_job_of_another_study_folder_or_script_is_not_taken_for_it(command: str, plain: Callable[..., bool]) -> None:
    assert not plain(command)


def test_default_results_folder_is_that_of_the_folder_it_was_submitted_in(
    plain: Callable[..., bool], tmp_path: Path
) -> None:
    assert not plain("HOME/slurm/sweep.sbatch quickstart", folder=tmp_path)
    assert plain("HOME/slurm/sweep.sbatch quickstart", folder=tmp_path, at="results")


@pytest.mark.parametrize("more", ["", " --offline", " --workers 2 --offline"])
@pytest.mark.parametrize("sign", [" ", "="])
def test_results_folder_may_hold_blanks(more: str, sign: str, plain: Callable[..., bool]) -> None:
    command = f"HOME/slurm/sweep.sbatch quickstart --results{sign}HOME/my own results{more}"
    assert plain(command, at="home/my own results")
    assert not plain(command, at="home/my")
    assert not plain(command)


def test_script_may_lie_in_a_folder_with_blanks(plain: Callable[..., bool]) -> None:
    assert plain("/home/my name/slurm/sweep.sbatch quickstart --results HOME/results")


def test_study_of_ones_own_may_have_a_path_with_blanks(plain: Callable[..., bool], tmp_path: Path) -> None:
    path = tmp_path / "home" / "my studies" / "mine.yaml"
    path.parent.mkdir()
    Results(tmp_path / "home" / "my studies").write_study(small_study(methods=["single"], name="mine"))
    (path.parent / "mine" / "study.yaml").rename(path)
    assert plain("HOME/slurm/sweep.sbatch HOME/my studies/mine.yaml", study="mine")
    assert plain("HOME/slurm/sweep.sbatch my studies/mine.yaml --offline", study="mine")
    assert not plain("HOME/slurm/sweep.sbatch my studies/mine.yaml", study="quickstart")


@pytest.mark.parametrize("named", ["mine.yaml", "./mine.yaml", "HOME/mine.yaml", "../home/mine.yaml"])
def test_study_of_ones_own_is_found_from_where_it_was_submitted(
    named: str, plain: Callable[..., bool], tmp_path: Path
) -> None:
    Results(tmp_path).write_study(small_study(methods=["single"], name="mine"))
    (tmp_path / "mine" / "study.yaml").rename(tmp_path / "home" / "mine.yaml")
    assert plain(f"HOME/slurm/sweep.sbatch {named}", study="mine")
    assert not plain(f"HOME/slurm/sweep.sbatch {named}", study="quickstart")
