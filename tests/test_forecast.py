"""What earlier rows tell of a run's time: the same method before others, the same device only."""

from typing import Any

import pytest
from simulated_study import done_row, failed_row, small_study, small_task

from benchmark.config import Run, expand
from benchmark.forecast import START_SECONDS, Forecast, Forecaster, describe_forecasts
from benchmark.speed.records import Record, record_of
from benchmark.store import Row

SINGLE, MIMO, OTHER_SINGLE, OTHER_MIMO = expand(
    small_study(methods=["single", {"method": "mimo", "num_members": 2}], seeds=2)
)
DEVICE, OTHER_DEVICE = "Fast GPU", "Slow GPU"


def row(run: Run, seconds: float, flops: float = 1e12, device: str = DEVICE, **measured: float) -> Row:
    done = done_row(run, {"accuracy": 0.5})
    spent = {"train_seconds": seconds, "compile_seconds": 0.0, "evaluation_seconds": 0.0, "checkpoint_seconds": 0.0}
    return done | {
        "costs": done["costs"] | {"training_flops": flops},
        "measured": spent | measured,
        "environment": {"device": device},
    }


def seconds(rows: list[Row], run: Run, flops: int | None = None, **arguments: Any) -> float | None:
    return Forecaster(lambda: rows, lambda _: flops, **arguments)(run).seconds


def test_earlier_runs_of_other_seeds_decide() -> None:
    forecast = Forecaster(
        lambda: [row(SINGLE, 100.0), row(MIMO, 300.0)], lambda _: pytest.fail("nothing is to be counted")
    )
    assert forecast(OTHER_SINGLE) == Forecast(100.0, f"earlier runs on {DEVICE}")
    assert forecast(OTHER_MIMO).seconds == 300.0


def test_one_slow_run_of_several_does_not_decide() -> None:
    rows = [
        row(run, spent) for run, spent in zip(expand(small_study(["single"], seeds=3)), (100, 110, 900), strict=True)
    ]
    assert seconds(rows, SINGLE) == 110


def test_all_that_a_run_spends_counts() -> None:
    spent = {"compile_seconds": 20.0, "evaluation_seconds": 3.0, "checkpoint_seconds": 0.5, "latency_ms_batch1": 1e6}
    assert seconds([row(SINGLE, 100.0, **spent)], OTHER_SINGLE) == 123.5


@pytest.mark.parametrize(
    "other",
    [
        expand(small_study(methods=["single"], seeds=1, tasks=[small_task(train_images=500)]))[0],
        expand(small_study(methods=[{"method": "single", "recipe": {"epochs": 20}}], seeds=1))[0],
        expand(small_study(methods=[{"method": "mimo", "num_members": 3}], seeds=1))[0],
    ],
    ids=["task", "recipe", "options"],
)
def test_runs_that_differ_in_more_than_the_seed_are_not_alike(other: Run) -> None:
    rows = [row(SINGLE, 100.0), row(MIMO, 300.0)]
    assert seconds(rows, other) is None
    assert seconds(rows, other, flops=10**12) is not None


def test_rows_of_other_devices_do_not_decide() -> None:
    rows = [row(SINGLE, 100.0), row(SINGLE, 900.0, device=OTHER_DEVICE), row(MIMO, 900.0, device=OTHER_DEVICE)]
    assert seconds(rows, OTHER_SINGLE, device=DEVICE) == 100.0
    assert seconds(rows, OTHER_MIMO, device=DEVICE) is None
    assert seconds(rows, OTHER_SINGLE, device="New GPU") is None
    assert seconds(rows, OTHER_SINGLE, 10**12, device="New GPU") is None


def test_rows_of_several_devices_tell_nothing_where_none_is_named() -> None:
    rows = [row(SINGLE, 100.0), row(OTHER_SINGLE, 900.0, device=OTHER_DEVICE)]
    assert seconds(rows, SINGLE, 10**12) is None
    assert Forecaster(lambda: rows, lambda _: None).device is None


def test_rows_that_name_no_device_tell_nothing() -> None:
    nameless = row(SINGLE, 100.0) | {"environment": {}}
    assert seconds([nameless], OTHER_SINGLE, 10**12) is None
    assert seconds([nameless, row(MIMO, 1.0), row(MIMO, 1.0, device=OTHER_DEVICE)], OTHER_SINGLE, 10**12) is None


def test_device_of_the_rows_is_taken_where_they_agree() -> None:
    assert Forecaster(lambda: [row(SINGLE, 1.0), row(MIMO, 1.0)], lambda _: None).device == DEVICE
    assert Forecaster(lambda: [row(SINGLE, 1.0)], lambda _: None, OTHER_DEVICE).device == OTHER_DEVICE


def test_other_methods_take_their_flops_at_the_measured_rate() -> None:
    forecast = Forecaster(lambda: [row(SINGLE, 100.0, flops=2e14)], lambda _: 6 * 10**14, stated_flops_per_second=1e9)
    assert forecast(MIMO).seconds == pytest.approx(300.0 + START_SECONDS)
    assert forecast(MIMO).source == f"FLOPs at the 2 TFLOP/s of other runs on {DEVICE}"


def test_measured_rate_is_that_of_the_named_device_and_the_middle_one() -> None:
    several = expand(small_study(["single"], seeds=4))
    rows = [row(run, 100.0, flops=flops) for run, flops in zip(several, (1e14, 2e14, 9e14), strict=False)]
    rows.append(row(several[3], 1.0, flops=1e14, device=OTHER_DEVICE))
    assert seconds(rows, MIMO, 4 * 10**14, device=DEVICE) == pytest.approx(200.0 + START_SECONDS)


def test_stated_rate_decides_where_nothing_was_measured() -> None:
    forecast = Forecaster(list, lambda _: 10**15, stated_flops_per_second=1e13)
    assert forecast(SINGLE) == Forecast(100.0 + START_SECONDS, "FLOPs at the stated 10 TFLOP/s")
    rows = [row(SINGLE, 7.0, device=OTHER_DEVICE)]
    forecast = Forecaster(lambda: rows, lambda _: 10**15, DEVICE, 1e13)
    assert forecast(SINGLE) == Forecast(100.0 + START_SECONDS, "FLOPs at the stated 10 TFLOP/s")


def test_nothing_is_known_without_rows_and_rate_or_without_flops() -> None:
    assert seconds([], SINGLE, 10**12) is None
    assert seconds([], SINGLE, None, stated_flops_per_second=1e12) is None
    assert seconds([row(SINGLE, 100.0)], MIMO, None) is None


def test_failed_rows_are_ignored() -> None:
    failed = row(SINGLE, 1.0) | {"status": "failed"}
    assert seconds([failed], OTHER_SINGLE, 10**12) is None
    assert seconds([failed, row(OTHER_SINGLE, 100.0)], SINGLE) == 100.0
    assert (
        seconds([failed_row(SINGLE, "broke"), failed | {"environment": {"device": OTHER_DEVICE}}], MIMO, 10**12) is None
    )


def test_row_that_measured_no_time_crashes_nothing() -> None:
    assert seconds([row(SINGLE, 0.0)], OTHER_SINGLE) == 0.0
    assert seconds([row(SINGLE, 0.0)], MIMO, 10**12) is not None


def test_methods_with_the_same_options_are_told_apart() -> None:
    mimo, mixmo = expand(small_study([{"method": name, "num_members": 2} for name in ("mimo", "mixmo")], seeds=1))
    assert seconds([row(mimo, 100.0)], mixmo) is None


def test_flops_are_counted_once_for_all_seeds() -> None:
    counted = []
    forecast = Forecaster(list, lambda run: counted.append(run.key) or 10**12, stated_flops_per_second=1e12)
    for run in (SINGLE, OTHER_SINGLE, MIMO, OTHER_MIMO, SINGLE):
        forecast(run)
    assert counted == [SINGLE.key, MIMO.key]


def test_forecasts_are_summed_up_by_where_they_come_from() -> None:
    known = [Forecast(1800.0, "earlier runs on X")] * 3 + [Forecast(3600.0, "FLOPs at the stated 1 TFLOP/s")]
    assert describe_forecasts(known) == (
        "2.5 hours predicted (3 by earlier runs on X, 1 by FLOPs at the stated 1 TFLOP/s)"
    )
    assert describe_forecasts([*known, Forecast(None, "")]).startswith("2.5 hours predicted (3 by ")
    assert "time not predicted for 1 runs" in describe_forecasts([*known, Forecast(None, "")])
    assert describe_forecasts([Forecast(None, "")]).startswith("time not predicted for 1 runs")
    assert describe_forecasts([]) == ""


def a_record(run: Run, flops_per_second: float, device: str = DEVICE) -> Record:
    return record_of(run, device, threads=1, flops_per_second=flops_per_second)


def test_before_any_run_what_speed_measured_decides() -> None:
    forecast = Forecaster(list, lambda _: 6 * 10**12, records=lambda: [a_record(SINGLE, 3e12)])(SINGLE)
    assert forecast == Forecast(2 + START_SECONDS, f"FLOPs at the 3 TFLOP/s that benchmark.speed measured on {DEVICE}")


def test_a_measured_rate_of_another_device_does_not_count() -> None:
    measured = [a_record(SINGLE, 3e12, OTHER_DEVICE)]
    assert seconds([], SINGLE, flops=10**12, device=DEVICE, records=lambda: measured) is None


def test_runs_with_other_seeds_decide_before_what_speed_measured() -> None:
    assert seconds([row(SINGLE, 100.0)], OTHER_SINGLE, records=lambda: [a_record(SINGLE, 3e12)]) == 100.0
