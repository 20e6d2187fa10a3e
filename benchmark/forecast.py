"""How long a run will take, from the study's earlier runs or from a stated throughput. No torch unless FLOPs are counted."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmark.config import Run
from benchmark.speed.records import Record, rate_for
from benchmark.store import Row

START_SECONDS = 60.0
"""Allowed to every task for starting Python, reading images and compiling, where no earlier run tells."""


@dataclass(frozen=True)
class Forecast:
    seconds: float | None
    source: str
    """Where it comes from, for people."""


class Forecaster:
    """Predicts runs on one device. `device` is as rows name it; None takes the rows' own where they agree on one."""

    def __init__(
        self,
        rows: Callable[[], Iterable[Row]],
        count_flops: Callable[[Run], int | None],
        device: str | None = None,
        stated_flops_per_second: float | None = None,
        records: Callable[[], Sequence[Record]] = lambda: (),
    ):
        """`records`: what benchmark.speed measured."""
        self._rows, self._count_flops, self._device = rows, count_flops, device
        self._stated, self._read_records = stated_flops_per_second, records
        self._flops: dict[str, int | None] = {}
        self.start_seconds = START_SECONDS

    @property
    def device(self) -> str | None:
        """That predictions are for; None where rows don't tell."""
        return self._known.device

    def __call__(self, run: Run) -> Forecast:
        """By runs that differ in the seed alone, else by FLOPs and a rate: measured by benchmark.speed, of other runs, or
        as stated.
        """
        kind = _kind(run.identity)
        known = self._known
        if alike := known.seconds.get(kind):
            return Forecast(statistics.median(alike), f"earlier runs on {known.device}")
        measured = rate_for(run, self._records, known.device) if known.device else None
        rate = measured or known.flops_per_second or self._stated
        if rate is None:
            return Forecast(None, "")
        if kind not in self._flops:
            self._flops[kind] = self._count_flops(run)
        flops = self._flops[kind]
        if flops is None:
            return Forecast(None, "")
        pace = f"{rate / 1e12:.3g} TFLOP/s"
        if measured:
            source = f"the {pace} that benchmark.speed measured on {known.device}"
        else:
            source = f"the {pace} of other runs on {known.device}" if known.flops_per_second else f"the stated {pace}"
        return Forecast(flops / rate + self.start_seconds, f"FLOPs at {source}")

    def look_again(self) -> None:
        """Rows were added: they are read when they are next asked for."""
        self.__dict__.pop("_known", None)

    @cached_property
    def _records(self) -> Sequence[Record]:
        return self._read_records()

    @cached_property
    def _known(self) -> "_Known":
        """Read when it is first asked for: of a study that is finished nothing is."""
        done = [row for row in self._rows() if row["status"] == "done"]
        devices = {row["environment"].get("device", "") for row in done} or {each["device"] for each in self._records}
        device = self._device or (devices.pop() if len(devices) == 1 else "") or None
        seconds: dict[str, list[float]] = defaultdict(list)
        rates = []
        for row in done:
            if device and row["environment"].get("device") == device:
                seconds[_kind(row)].append(_spent(row))
                rates.append(row["costs"]["training_flops"] / max(_spent(row), 1e-9))
        return _Known(device, seconds, statistics.median(rates) if rates else None)


@dataclass(frozen=True)
class _Known:
    device: str | None
    seconds: dict[str, list[float]]
    """Of runs that differ in the seed alone."""
    flops_per_second: float | None


def describe_forecasts(forecasts: Sequence[Forecast]) -> str:
    """`3.2 hours predicted (12 runs by earlier runs on NVIDIA H200), nothing known of 2 runs`"""
    known = [forecast.seconds for forecast in forecasts if forecast.seconds is not None]
    counts = Counter(forecast.source for forecast in forecasts if forecast.seconds is not None)
    parts = []
    if known:
        sources = ", ".join(f"{number} by {source}" for source, number in counts.items())
        parts.append(f"{sum(known) / 3600:.3g} hours predicted ({sources})")
    if len(known) < len(forecasts):
        parts.append(
            f"time not predicted for {len(forecasts) - len(known)} runs: no earlier run on this device tells, "
            "and the profile states no training_tflops"
        )
    return ", ".join(parts)


def _kind(identity: Row) -> str:
    """What two runs that take equally long have in common."""
    return json.dumps([identity[part] for part in ("method", "options", "task", "recipe")], sort_keys=True)


def _spent(row: Row) -> float:
    """All seconds of a run, evaluation and checkpoints included."""
    return sum(row["measured"].get(f"{part}_seconds", 0.0) for part in ("train", "compile", "evaluation", "checkpoint"))
