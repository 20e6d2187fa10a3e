"""What became of runs, from the files in their folders."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from simulated_study import done_row, failed_row
from submitted_runs import BROKEN_JSON, RUN, RUNS

from benchmark import endings
from benchmark.config import Run
from benchmark.endings import RETRIES, TEXTS, Ending, Why, forget_ending, read_ending, write_ending
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
