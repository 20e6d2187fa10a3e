"""How a run tells people where it is: a bar on a terminal, one line per epoch in a log, a small file for `--status`."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from benchmark.config import Run
from benchmark.files import open_log, write_atomically

SECONDS_BETWEEN_FILES = 0.5


@dataclass(frozen=True)
class Progress:
    """Where a run is, for people."""

    stage: str
    epoch: int
    num_epochs: int
    share: float
    """of all steps of all stages"""
    loss: float
    """mean over the epoch so far"""
    accuracy: float | None
    """on monitored images, at the last epoch's end"""
    images_per_second: float
    seconds_left: float
    epoch_ended: bool


class Reporter:
    """Takes a run's progress; writes lines to standard error and the state to `progress.json` in the run's folder.

    `log` gets the lines too, where standard error is not the log already.
    """

    def __init__(self, folder: Path, should_stop: Callable[[], bool], log: TextIO | None = None):
        self.folder = folder
        self.should_stop = should_stop
        self.log = log
        self._written_at = 0.0

    def progress(self, progress: Progress) -> None:
        if time.monotonic() - self._written_at >= SECONDS_BETWEEN_FILES:
            state = json.dumps(asdict(progress) | {"updated": time.time()})
            with contextlib.suppress(OSError):  # nice to have: a full disk shows when results are written
                write_atomically(self.folder / "progress.json", lambda file: file.write(state.encode()), durable=False)
            self._written_at = time.monotonic()
        self.show(progress)

    def show(self, progress: Progress) -> None:
        if progress.epoch_ended:
            self.line(epoch_line(progress))

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self.write_log(text)

    def write_log(self, text: str) -> None:
        if self.log is not None:
            print(text, file=self.log, flush=True)


class BarReporter(Reporter):
    """The same with a bar in place of lines."""

    def __init__(self, folder: Path, should_stop: Callable[[], bool], log: TextIO, bars: Bars, title: str):
        super().__init__(folder, should_stop, log)
        self._bars = bars
        self._bar = bars.add_task(title, total=1.0, state="starting")

    def show(self, progress: Progress) -> None:
        self._bars.update(self._bar, completed=progress.share, state=epoch_line(progress))
        if progress.epoch_ended:
            self.write_log(epoch_line(progress))

    def line(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)
        self.write_log(text)


@contextlib.contextmanager
def reporter(run: Run, folder: Path, should_stop: Callable[[], bool]) -> Iterator[Reporter]:
    """A reporter for standard error as it is."""
    with os.fdopen(open_log(folder), "a", encoding="utf-8") as log:
        if not sys.stderr.isatty():
            yield Reporter(folder, should_stop, log)
            return
        with bars() as shown:
            yield BarReporter(folder, should_stop, log, shown, run.label)


def bars() -> Bars:
    """Bars on standard error with a title and a state each."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def epoch_line(progress: Progress) -> str:
    return f"{progress.stage} epoch {describe(asdict(progress))}"


def describe(progress: dict[str, Any]) -> str:
    """`12/30  loss 0.231  accuracy 97.1 %  4,210 images/s`"""
    parts = [f"{progress['epoch']}/{progress['num_epochs']}", f"loss {progress['loss']:.3f}"]
    if progress["accuracy"] is not None:
        parts.append(f"accuracy {100 * progress['accuracy']:.1f} %")
    parts.append(f"{progress['images_per_second']:,.0f} images/s")
    parts.append(f"{duration(progress['seconds_left'])} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def read_progress(folder: Path) -> dict[str, Any] | None:
    """What a running run said last; None where it said nothing (readable)."""
    try:
        state = json.loads((folder / "progress.json").read_text())
        numbers = [
            state[name] for name in ("epoch", "num_epochs", "share", "images_per_second", "seconds_left", "updated")
        ]
        numbers += [state["loss"]] if state["accuracy"] is None else [state["loss"], state["accuracy"]]
        return state if all(map(math.isfinite, numbers)) and isinstance(state["stage"], str) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, OverflowError):
        return None
