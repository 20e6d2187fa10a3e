"""What became of runs: from the files in their folders, from the queue and from accounting."""

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from simulated_study import done_row, failed_row, small_study

from benchmark import endings
from benchmark.config import Run, expand
from benchmark.endings import RETRIES, TEXTS, Ending, Why, forget_ending, read_ending, write_ending
from benchmark.errors import UserError, WorkError
from benchmark.lock import SILENT_SECONDS, claim
from benchmark.states import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    NOT_SUBMITTED,
    QUEUED,
    RUNNING,
    RunState,
    last_lines,
    run_states,
    to_do,
)
from benchmark.store import Results
from slurm import scheduler
from slurm import states as cluster
from slurm.scheduler import Ended, Queued
from slurm.states import ask_queue, cluster_states, plain_jobs
from slurm.submissions import (
    Submission,
    SubmittedArray,
    job_name,
    new_id,
    places,
    read_submissions,
    submissions_dir,
    write_submission,
)

RUNS = expand(small_study(methods=["single"], seeds=6))
RUN = RUNS[0]
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
WHYS: tuple[Why, ...] = get_args(Why)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


@pytest.fixture
def folder(results: Results) -> Path:
    """Of RUN."""
    path = results.run_dir(RUN.key)
    path.mkdir(parents=True)
    return path


def state_of(results: Results, run: Run = RUN) -> RunState:
    row = results.row(run.key)
    [state] = run_states([run], results, {run.key: row} if row else {})
    return state


def say(folder: Path, **changes: Any) -> None:
    (folder / "progress.json").write_text(json.dumps(SAID | {"updated": time.time()} | changes))


# The six states, from the run's own files


def test_run_without_a_folder_is_not_submitted(results: Results) -> None:
    assert state_of(results) == RunState(RUN, NOT_SUBMITTED)


def test_run_with_an_empty_folder_is_not_submitted(results: Results, folder: Path) -> None:
    (folder / "log").write_text("hello\n")
    assert state_of(results) == RunState(RUN, NOT_SUBMITTED)


def test_run_with_a_row_is_finished(results: Results, folder: Path) -> None:
    results.write_row(done_row(RUN, {"accuracy": 0.5}))
    write_ending(folder, Ending("error"))
    say(folder)
    assert state_of(results) == RunState(RUN, FINISHED)


def test_skipped_run_is_finished_and_tells_why(results: Results) -> None:
    results.write_row(done_row(RUN, {}) | {"status": "skipped", "reason": "too large"})
    assert state_of(results) == RunState(RUN, FINISHED, "too large")


def test_finished_run_is_finished_while_its_lock_is_held(results: Results, folder: Path) -> None:
    results.write_row(done_row(RUN, {"accuracy": 0.5}))
    with claim(folder):
        assert state_of(results).state == FINISHED


@pytest.mark.parametrize("failure", ["error", "oom_device", "oom_host"])
def test_run_with_a_failed_row_failed(failure: str, results: Results) -> None:
    results.write_row(failed_row(RUN, "it broke") | {"failure": failure})
    assert state_of(results) == RunState(RUN, FAILED, "it broke", failure)


def test_failed_row_that_names_no_class_is_an_error(results: Results) -> None:
    results.write_row(failed_row(RUN, "it broke"))
    assert state_of(results) == RunState(RUN, FAILED, "it broke", "error")


def test_held_run_is_running_and_says_where_it_is(results: Results, folder: Path) -> None:
    with claim(folder):
        assert state_of(results) == RunState(RUN, RUNNING, "starting")
        say(folder)
        expected = "main epoch 3/10  loss 0.500  accuracy 75.0 %  1,234 images/s  1:02 left"
        assert state_of(results) == RunState(RUN, RUNNING, expected)


def test_what_an_earlier_owner_said_is_not_the_present_ones(results: Results, folder: Path) -> None:
    say(folder, updated=time.time() - 100)
    with claim(folder):
        assert state_of(results).detail == "starting"


def test_run_that_is_tried_again_is_running(results: Results, folder: Path) -> None:
    results.write_row(failed_row(RUN, "it broke"))
    write_ending(folder, Ending("error"))
    with claim(folder):
        assert state_of(results).state == RUNNING


def test_silent_owner_is_named(results: Results, folder: Path) -> None:
    with claim(folder):
        say(folder)
        assert "silent" not in state_of(results).detail
        os.utime(folder / "lock.1", (time.time() - 3723,) * 2)
        state = state_of(results)
        assert state.state == RUNNING
        assert state.detail.startswith("main epoch 3/10")
        assert f"; process {os.getpid()} on " in state.detail
        assert " has been silent for 1:02:0" in state.detail
        os.utime(folder / "lock.1", (time.time() - SILENT_SECONDS + 5,) * 2)
        assert "silent" not in state_of(results).detail


def test_released_run_with_progress_is_interrupted(results: Results, folder: Path) -> None:
    say(folder)
    with claim(folder):
        pass
    assert state_of(results) == RunState(RUN, INTERRUPTED, "at 25 %")


def test_released_run_without_progress_was_interrupted_before_its_first_step(results: Results, folder: Path) -> None:
    with claim(folder):
        pass
    assert state_of(results) == RunState(RUN, INTERRUPTED, "before its first step")


@pytest.mark.parametrize("why", WHYS)
def test_run_that_left_an_ending_is_interrupted_or_failed_and_tells_why(
    why: Why, results: Results, folder: Path
) -> None:
    write_ending(folder, Ending(why, "so it was"))
    assert state_of(results) == RunState(RUN, INTERRUPTED, f"{TEXTS[why]}: so it was", why)
    say(folder)
    assert state_of(results) == RunState(RUN, INTERRUPTED, f"{TEXTS[why]}: so it was, at 25 %", why)
    write_ending(folder, Ending(why, final=True))
    assert state_of(results) == RunState(RUN, FAILED, f"{TEXTS[why]}, at 25 %", why)


def test_states_come_in_the_order_of_the_runs(results: Results) -> None:
    results.write_row(done_row(RUNS[1], {"accuracy": 0.5}))
    rows = {RUNS[1].key: results.row(RUNS[1].key)}
    assert [state.run for state in run_states(RUNS, results, rows)] == RUNS
    assert [state.state for state in run_states(RUNS[:3], results, rows)] == [NOT_SUBMITTED, FINISHED, NOT_SUBMITTED]


# Endings


def test_every_class_of_ending_has_a_text_of_its_own() -> None:
    assert set(TEXTS) == set(WHYS)
    assert len(set(TEXTS.values())) == len(WHYS)
    assert str(Ending("oom_device")) == "out of memory on device"
    assert str(Ending("oom_host")) == "out of memory on host"
    assert str(Ending("time_limit", "no requeue")) == "time limit: no requeue"
    assert str(Ending("node_failure", "node3")) == "node failure: node3"
    assert str(Ending("cancelled")) == "cancelled"
    assert str(Ending("error", "broken")) == "error: broken"


def test_ending_is_read_as_it_was_written_with_its_time(folder: Path) -> None:
    ending = Ending("node_failure", "größe\n\x1b", True, "12_3", "2026-01-02T03:04:05+00:00")
    write_ending(folder, ending)
    assert read_ending(folder) == ending
    write_ending(folder, Ending("error"))
    read = read_ending(folder)
    assert read is not None
    assert read.at.endswith("+00:00")


def test_forgotten_ending_is_gone(folder: Path) -> None:
    write_ending(folder, Ending("error"))
    forget_ending(folder)
    assert read_ending(folder) is None
    forget_ending(folder)
    forget_ending(folder / "none")


def test_ending_that_cannot_be_written_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(endings, "write_atomically", full)
    write_ending(folder, Ending("error"))
    assert read_ending(folder) is None


BROKEN_JSON = [b"", b"{", b"null", b"[]", b"5", b'"error"', b"\xff\xfe", b"\0" * 50, b"[" * 100_000]
BROKEN_ENDINGS = [
    *BROKEN_JSON,
    b"{}",
    b'{"why": "bad luck"}',
    b'{"why": null}',
    b'{"why": ["error"]}',
    b'{"why": "error", "colour": "red"}',
]


@pytest.mark.parametrize("content", BROKEN_ENDINGS, ids=lambda content: repr(content[:30]))
def test_damaged_ending_is_ignored(content: bytes, results: Results, folder: Path) -> None:
    (folder / "ending.json").write_bytes(content)
    assert read_ending(folder) is None
    assert state_of(results) == RunState(RUN, NOT_SUBMITTED)


def broken_progress(**changes: Any) -> bytes:
    said = SAID | {"updated": time.time() + 100} | changes
    return json.dumps({key: value for key, value in said.items() if value != "left out"}).encode()


NUMBERS = ("epoch", "num_epochs", "share", "loss", "images_per_second", "seconds_left", "updated")
BROKEN_PROGRESS = {
    **{repr(content[:30]): content for content in [*BROKEN_JSON, b"{}"]},
    **{f"{name} is left out": broken_progress(**{name: "left out"}) for name in (*NUMBERS, "stage")},
    **{f"{name} is text": broken_progress(**{name: "3"}) for name in (*NUMBERS, "accuracy")},
    **{f"{name} is null": broken_progress(**{name: None}) for name in (*NUMBERS, "stage")},
    "infinite": broken_progress(seconds_left=float("inf")),
    "no number": broken_progress(seconds_left=float("nan")),
}


@pytest.mark.parametrize("content", BROKEN_PROGRESS.values(), ids=BROKEN_PROGRESS.keys())
def test_damaged_progress_is_ignored(content: bytes, results: Results, folder: Path) -> None:
    (folder / "progress.json").write_bytes(content)
    with claim(folder):
        assert state_of(results) == RunState(RUN, RUNNING, "starting")
    assert state_of(results) == RunState(RUN, INTERRUPTED, "before its first step")


def test_progress_of_a_run_without_monitored_images_is_no_damage(results: Results, folder: Path) -> None:
    with claim(folder):
        say(folder, accuracy=None)
        assert state_of(results).detail == "main epoch 3/10  loss 0.500  1,234 images/s  1:02 left"


# What there is to do


def test_without_retry_only_what_has_not_failed_is_to_do() -> None:
    names = (NOT_SUBMITTED, QUEUED, RUNNING, INTERRUPTED, FAILED, FINISHED)
    states = [RunState(run, name) for run, name in zip(RUNS, names, strict=True)]
    assert to_do(states) == [RUNS[0], RUNS[3]]
    assert to_do(states, "all") == [RUNS[0], RUNS[3], RUNS[4]]


@pytest.mark.parametrize(
    ("retry", "again"),
    [
        ("failed", {"error"}),
        ("timeout", {"time_limit"}),
        ("oom", {"oom_device", "oom_host"}),
        ("node", {"node_failure"}),
        ("all", set(WHYS)),
    ],
)
def test_retry_adds_failed_runs_of_its_class(retry: str, again: set[str]) -> None:
    states = [RunState(run, FAILED, "", why) for run, why in zip(RUNS, WHYS, strict=True)]
    assert to_do(states, retry) == [state.run for state in states if state.why in again]
    assert to_do([RunState(state.run, FINISHED, "", state.why) for state in states], retry) == []
    interrupted = [RunState(state.run, INTERRUPTED, "", state.why) for state in states]
    assert to_do(interrupted, retry) == RUNS


def test_failed_run_of_unknown_class_counts_as_an_error() -> None:
    assert to_do([RunState(RUN, FAILED)], "failed") == [RUN]
    assert to_do([RunState(RUN, FAILED)], "oom") == []
    assert set(RETRIES) == {"failed", "timeout", "oom", "node", "all"}


# The end of a log


def test_end_of_a_log_is_its_last_lines_that_say_something(folder: Path) -> None:
    (folder / "log").write_text("one\ntwo\n\nthree\n   \nfour\n\n")
    assert last_lines(folder) == ["two", "three", "four"]
    (folder / "log").write_text("one")
    assert last_lines(folder) == ["one"]
    (folder / "log").write_text("")
    assert last_lines(folder) == []
    assert last_lines(folder / "none") == []


def test_end_of_a_log_with_binary_garbage_is_told_all_the_same(folder: Path) -> None:
    (folder / "log").write_bytes(b"\xff\xfe\x80" * 5000 + b"\nValueError: gr\xc3\xb6\xc3\x9fe \xff\n")
    assert last_lines(folder)[-1] == "ValueError: größe �"
    (folder / "log").write_bytes(bytes(range(256)) * 100)
    assert len(last_lines(folder)) <= 3


def test_end_of_a_long_log_is_read_without_the_rest(folder: Path) -> None:
    (folder / "log").write_text("one\n" + "x" * 10_000 + "\nlast\n")
    cut, last = last_lines(folder)
    assert len(cut) < 4096
    assert last == "last"


# Submissions, and where each run is


def array(name: str, *tasks: Sequence[Run], job: str | None = "12") -> SubmittedArray:
    return SubmittedArray(name=name, minutes=60, tasks=[[run.key for run in task] for task in tasks], job=job)


def submitted(results: Results, *arrays: SubmittedArray, number: str = "20260102-000000-aaaaaa") -> Submission:
    submission = Submission(id=number, created="2026-01-02T03:04:05+00:00", commit="abc", arrays=list(arrays))
    write_submission(submissions_dir(results.study_dir("simulated")) / number, submission)
    return submission


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
