"""From runs and their predicted times to job arrays: every run once, limits above predictions, nothing above the cluster's."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from simulated_study import small_study

from benchmark.config import Run, expand
from benchmark.endings import RETRIES
from benchmark.forecast import Forecast, Forecaster
from benchmark.states import FAILED, FINISHED, INTERRUPTED, NOT_SUBMITTED, QUEUED, RUNNING, RunState
from slurm.arrays import LIMITS, Array, make_arrays, parallelism
from slurm.launch import plan
from slurm.profile import Profile

NUM_RUNS = 400
RUNS = expand(small_study(methods=["single"], seeds=NUM_RUNS))


def profile(**changes: Any) -> Profile:
    return Profile.model_validate({"time_limit_minutes": 1440, "margin": 1.5} | changes)


def predicted(seconds: Sequence[float | None]) -> Callable[[Run], Forecast]:
    """Seconds by the run's place in RUNS, again and again."""
    return lambda run: Forecast(seconds[run.seed % len(seconds)], "told")


def made(num_runs: int, seconds: Sequence[float | None], limit: int = 1001, **changes: Any) -> list[Array]:
    return make_arrays(RUNS[:num_runs], profile(**changes), predicted(seconds), limit)


def seeds(array: Array) -> list[int]:
    return [run.seed for task in array.tasks for run in task]


def test_runs_of_different_lengths_go_to_arrays_with_limits_of_their_own() -> None:
    short, long = made(6, [60.0, 7200.0])
    assert (seeds(short), seeds(long)) == ([0, 2, 4], [1, 3, 5])
    assert (short.minutes, long.minutes) == (5, 240)


def test_runs_of_about_the_same_length_share_an_array() -> None:
    [array] = made(4, [3000.0, 3010.0, 3020.0, 3100.0])
    assert array.num_runs == 4


@pytest.mark.parametrize("seconds", [0.0, 1.0, 59.0, 60.0, 100.0, 1000.0, 3600.0, 12345.6, 50_000.0])
@pytest.mark.parametrize("margin", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("runs_per_task", [1, 4])
def test_limit_is_the_next_above_prediction_times_margin_and_saving(
    seconds: float, margin: float, runs_per_task: int
) -> None:
    [array] = made(1, [seconds], time_limit_minutes=527_040, margin=margin, runs_per_task=runs_per_task)
    needed = seconds * margin * runs_per_task + profile().signal_seconds
    assert 60 * array.minutes >= needed
    smaller = [limit for limit in LIMITS if limit < array.minutes]
    assert array.minutes in LIMITS
    assert not smaller or 60 * smaller[-1] < needed


def test_limits_are_rounded_up_and_never_down() -> None:
    exactly = 60 * 60 - profile().signal_seconds
    assert made(1, [exactly / 1.5])[0].minutes == 60
    assert made(1, [(exactly + 1) / 1.5])[0].minutes == 90


@pytest.mark.parametrize("seconds", [86_400.0, 1e7, 1e12])
@pytest.mark.parametrize("longest", [1, 7, 100, 1440])
def test_no_limit_is_above_the_profiles(seconds: float, longest: int) -> None:
    [array] = made(1, [seconds], time_limit_minutes=longest, signal_seconds=10)
    assert array.minutes == longest


def test_run_longer_than_all_steps_gets_the_profiles_limit() -> None:
    assert made(1, [1e12], time_limit_minutes=527_040)[0].minutes == 527_040


def test_profile_limit_between_two_steps_is_a_limit_too() -> None:
    assert made(1, [60 * 60], time_limit_minutes=100)[0].minutes == 100
    assert made(1, [1.0], time_limit_minutes=3)[0].minutes == 3


def test_run_of_unknown_length_gets_the_profiles_limit() -> None:
    short, unknown = made(4, [60.0, None])
    assert (short.minutes, unknown.minutes) == (5, 1440)
    assert seeds(unknown) == [1, 3]


def test_without_a_margin_all_runs_get_the_profiles_limit() -> None:
    [array] = made(6, [60.0, 7200.0, None], margin=None)
    assert array.minutes == 1440
    assert seeds(array) == [0, 1, 2, 3, 4, 5]


def test_short_runs_are_bundled_and_their_task_has_time_for_all() -> None:
    [array] = made(7, [600.0], runs_per_task=3, margin=1.0)
    assert [len(task) for task in array.tasks] == [3, 3, 1]
    assert array.minutes == 45
    assert array.num_runs == 7


def test_arrays_hold_the_runs_in_the_order_of_the_grid() -> None:
    draw = random.Random(0)
    lengths = [draw.choice([60.0, 7200.0, None]) for _ in range(NUM_RUNS)]
    for array in made(NUM_RUNS, lengths, runs_per_task=3):
        assert seeds(array) == sorted(seeds(array))


def test_first_tasks_hold_the_first_runs_where_an_array_is_split() -> None:
    arrays = made(10, [60.0], limit=4)
    assert [seeds(array) for array in arrays] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_no_run_is_lost_or_repeated_and_no_array_too_large() -> None:
    draw = random.Random(0)
    for _ in range(300):
        num_runs, limit = draw.randrange(NUM_RUNS), draw.choice([1, 2, 3, 10, 1001, draw.randint(1, 50)])
        per_task = draw.choice([1, 1, 2, 12, draw.randint(1, 40)])
        lengths = [draw.choice([None, draw.expovariate(1 / 5000)]) for _ in range(draw.randint(1, 20))]
        needs = profile(
            runs_per_task=per_task,
            margin=draw.choice([None, 1.0, 1.5]),
            time_limit_minutes=draw.choice([2, 60, 240, 10_000]),
        )
        arrays = make_arrays(RUNS[:num_runs], needs, predicted(lengths), limit)
        assert sorted(seed for array in arrays for seed in seeds(array)) == list(range(num_runs))
        for array in arrays:
            assert 1 <= len(array.tasks) <= limit
            assert all(1 <= len(task) <= per_task for task in array.tasks)
            assert array.minutes <= needs.time_limit_minutes
            assert seeds(array) == sorted(seeds(array))
            assert array.profile == needs


def test_nothing_to_do_makes_no_array() -> None:
    assert made(0, [60.0]) == []
    assert parallelism([], 5) == []


def test_requested_gpu_hours_are_those_of_all_tasks_at_their_limits() -> None:
    [array] = made(8, [600.0], runs_per_task=2, margin=1.0, gpus=2)
    assert array.minutes == 30
    assert array.gpu_hours == 4 * 0.5 * 2
    assert made(8, [600.0], gpus=0)[0].gpu_hours == 0


def of_sizes(*sizes: int) -> list[Array]:
    return [Array(60, profile(), tuple((run,) for run in RUNS[:size])) for size in sizes]


def test_tasks_at_once_are_shared_by_size() -> None:
    assert parallelism(of_sizes(30, 10), 8) == [6, 2]
    assert parallelism(of_sizes(20), 8) == [8]


def test_array_that_is_small_needs_no_more_than_its_tasks() -> None:
    assert parallelism(of_sizes(3, 2), 64) == [3, 2]


def test_every_array_may_run_a_task_however_many_there_are() -> None:
    assert parallelism(of_sizes(1, 1, 1, 1), 2) == [1, 1, 1, 1]


@pytest.mark.parametrize(("sizes", "at_once"), [((100, 1, 1), 3), ((50, 1), 10), ((400, 3, 3, 3), 8)])
def test_small_arrays_take_their_task_from_the_share_of_the_large(sizes: tuple[int, ...], at_once: int) -> None:
    assert sum(parallelism(of_sizes(*sizes), at_once)) <= at_once


def test_shares_are_at_least_one_and_at_most_what_may_run_at_once() -> None:
    draw = random.Random(0)
    for _ in range(500):
        arrays = of_sizes(*(draw.choice([1, 2, draw.randint(1, NUM_RUNS)]) for _ in range(draw.randint(1, 6))))
        at_once = draw.randint(1, 100)
        shares = parallelism(arrays, at_once)
        assert all(1 <= share <= len(array.tasks) for share, array in zip(shares, arrays, strict=True))
        assert sum(shares) <= max(at_once, len(arrays)), (shares, [len(array.tasks) for array in arrays], at_once)


# Which runs are planned


NEEDS = profile(memory_gb=16, partition="gpu", retry_oom={"memory_gb": 64, "partition": "big"})
UNKNOWN = Forecaster(list, lambda run: None)


def failed(index: int, why: Any) -> RunState:
    return RunState(RUNS[index], FAILED, "", why)


def planned(states: Sequence[RunState], retry: str | None = None) -> list[tuple[float | None, str | None, list[int]]]:
    """Memory, partition and seeds of each array."""
    made = plan(states, NEEDS, UNKNOWN, retry, 1001)
    assert made.num_runs == len(made.forecasts)
    return [(array.profile.memory_gb, array.profile.partition, seeds(array)) for array in made.arrays]


def test_only_missing_and_interrupted_runs_are_planned() -> None:
    names = (NOT_SUBMITTED, QUEUED, RUNNING, INTERRUPTED, FAILED, FINISHED)
    assert planned([RunState(run, name) for run, name in zip(RUNS, names, strict=False)]) == [(16, "gpu", [0, 3])]


def test_failed_runs_are_planned_when_told_to_retry() -> None:
    whys = ("error", "oom_device", "oom_host", "time_limit", "node_failure", "cancelled")
    states = [failed(index, why) for index, why in enumerate(whys)]
    assert planned(states) == []
    assert planned(states, "failed") == [(16, "gpu", [0])]
    assert planned(states, "timeout") == [(16, "gpu", [3])]
    assert planned(states, "node") == [(16, "gpu", [4])]
    assert planned(states, "oom") == [(64, "big", [1, 2])]
    assert planned(states, "all") == [(16, "gpu", [0, 3, 4, 5]), (64, "big", [1, 2])]
    assert set(RETRIES) == {"failed", "timeout", "oom", "node", "all"}


def test_runs_that_ran_out_of_memory_get_what_the_profile_gives_them_then_and_others_not() -> None:
    states = [RunState(RUNS[0], NOT_SUBMITTED), failed(1, "oom_device"), RunState(RUNS[2], INTERRUPTED, "", "oom_host")]
    assert planned(states, "oom") == [(16, "gpu", [0]), (64, "big", [1, 2])]
    assert planned(states) == [(16, "gpu", [0]), (64, "big", [2])]


def test_plan_says_what_would_be_submitted() -> None:
    assert plan([], NEEDS, UNKNOWN, None, 10).lines() == ["nothing to submit"]
    lines = plan([RunState(run, NOT_SUBMITTED) for run in RUNS[:3]], NEEDS, UNKNOWN, None, 2).lines()
    assert lines[0].startswith("array 0: 2 runs in 2 tasks of 1440 minutes, each with 1 GPU and 4 CPUs")
    assert lines[1].startswith("array 1: 1 runs in 1 task of 1440 minutes")
    assert lines[2].startswith("3 runs in 2 arrays: 72 GPU hours requested at most, time not predicted for 3 runs")
