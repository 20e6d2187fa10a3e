"""Spreads and turns, by a clock that the tests move."""

import statistics

import pytest

from benchmark.timing import WARM_UP_CALLS, Spread, in_turns, seconds_of, times_as_long


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_spread_is_the_median_and_the_middle_half() -> None:
    values = [5.0, 1.0, 2.0, 4.0, 3.0]
    assert Spread.of(values) == Spread(statistics.median(values), 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_a_rate_swaps_the_ends_of_a_spread() -> None:
    assert Spread(2.0, 1.0, 4.0).inverse(8.0) == Spread(4.0, 2.0, 8.0)


def test_ways_are_measured_there_and_back() -> None:
    clock, order = Clock(), []

    def way(name: str, seconds: float) -> None:
        order.append(name)
        clock.now += seconds

    seconds = in_turns({"a": lambda: way("a", 1.0), "b": lambda: way("b", 3.0)}, 2, clock)
    assert "".join(order) == "a" * WARM_UP_CALLS + "b" * WARM_UP_CALLS + "ab" + "ba"
    assert seconds == {"a": [1.0, 1.0], "b": [3.0, 3.0]}


def test_what_slows_a_round_falls_out_of_ratios() -> None:
    assert times_as_long([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == Spread(2.0, 2.0, 2.0)


def test_ratios_of_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        times_as_long([1.0], [1.0, 2.0])


def test_work_is_timed_by_the_given_clock() -> None:
    clock = Clock()

    def work() -> None:
        clock.now += 1.5

    assert seconds_of(work, clock) == 1.5
