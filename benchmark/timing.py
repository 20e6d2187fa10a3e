"""Times of work, measured in turns, so that a machine that slows down slows all ways alike. No torch."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

WARM_UP_CALLS = 2


@dataclass(frozen=True)
class Spread:
    """A median, and the two values between which the middle half of all measurements lies."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        if len(ordered) == 1:
            return cls(ordered[0], ordered[0], ordered[0])
        low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(median, low, high)

    def __mul__(self, factor: float) -> "Spread":
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def inverse(self, numerator: float = 1.0) -> "Spread":
        """Of `numerator` over each value: a rate from seconds."""
        return Spread(numerator / self.median, numerator / self.high, numerator / self.low)

    def __str__(self) -> str:
        return f"{short(self.median)} [{short(self.low)}, {short(self.high)}]"


def short(value: float) -> str:
    """Three significant digits, and no exponent up to a billion."""
    if value and abs(value) < 100:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:,.0f}"


def seconds_of(work: Callable[[], object], now: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a piece of work, by a clock that tells the time when a device has done what it was given."""
    start = now()
    work()
    return now() - start


def in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, now: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each way, one value per round, after calls that don't count. A round goes A B C, the next C B A."""
    for work in ways.values():
        for _ in range(WARM_UP_CALLS):
            work()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        names = list(ways) if turn % 2 == 0 else list(ways)[::-1]
        for name in names:
            seconds[name].append(seconds_of(ways[name], now))
    return seconds


def times_as_long(seconds: list[float], reference: list[float]) -> Spread:
    """Round by round, so that what slows a round falls out."""
    return Spread.of(mine / theirs for mine, theirs in zip(seconds, reference, strict=True))
