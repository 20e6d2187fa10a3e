"""Measured numbers beside what is asked of them, and the most memory that a process held."""

import resource
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured number: a median, where there are several measurements with the lowest and the highest."""

    section: str
    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    target: str = ""
    is_reached: bool | None = None
    """None where nothing is asked for."""
    note: str = ""

    @property
    def text(self) -> str:
        measured = "" if self.value is None else f"{self.value:.3g} {self.unit}"
        if self.low is not None and self.high is not None:
            measured += f" [{self.low:.3g}, {self.high:.3g}]"
        asked = f"{self.target}: {'reached' if self.is_reached else 'MISSED'}" if self.is_reached is not None else ""
        return f"{self.section:<12}{'; '.join(part for part in (f'{self.name}: {measured}', asked, self.note) if part)}"


def in_milliseconds(section: str, name: str, seconds: list[float]) -> Figure:
    milliseconds = [1000 * each for each in seconds]
    return Figure(section, name, statistics.median(milliseconds), "ms", min(milliseconds), max(milliseconds))


def in_seconds(section: str, name: str, seconds: list[float], most: float) -> Figure:
    value = statistics.median(seconds)
    low, high = (min(seconds), max(seconds)) if len(seconds) > 1 else (None, None)
    return Figure(section, name, value, "s", low, high, f"{most:g} s at most", value <= most)


def times_faster(
    section: str, name: str, ours: list[float], theirs: list[float], least: float, note: str = ""
) -> Figure:
    ratios = [theirs_seconds / seconds for seconds, theirs_seconds in zip(ours, theirs, strict=True)]
    value = statistics.median(ratios)
    return Figure(section, name, value, "times", min(ratios), max(ratios), f"{least:g} at least", value >= least, note)


def peak_bytes() -> int:
    """The most memory that this process held. Where /proc does not tell, getrusage does: at least that of its parent."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
