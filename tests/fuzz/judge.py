"""Runs a command in this process and judges how it ended: well, or in one clear line and exit code 2 or 1."""

import io
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmark.errors import exit_code

from .near_valid import NearValid

SECONDS, WAITING_SECONDS = 30, 300
"""Of the processor, and of the clock, after which a command hangs."""
LONGEST_LINE = 4100
"""Of an error: the names of all packaged studies take about half."""
PROJECT = Path(__file__).parents[2]


class Finding(AssertionError):
    """What must not happen. The first argument tells kinds of findings apart."""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def warnings(self) -> list[str]:
        """Everything on standard error but the line that says why the command failed."""
        return self.err.splitlines()[: -1 if self.code else None]


def answer(main: Callable[[], int], *arguments: object, reports: bool = False) -> Answer:
    """What a command answers to its command line. Raises Finding for a traceback, a hang or an unclear end.

    `reports`: whether it also tells of its progress.
    """
    streams = sys.stdout, sys.stderr
    argv, sys.argv = sys.argv, ["command", *map(str, arguments)]
    sys.stdout = io.TextIOWrapper(io.BytesIO(), "utf-8")  # strict, as a pipe is
    sys.stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    try:
        with _alarm():
            code = exit_code(main)
        texts = []
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    except SystemExit as left:
        if left.code not in (0, None):
            raise Finding("left by SystemExit", f"code {left.code}") from None
        return Answer(0, "", "")  # --help
    except Finding:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Finding(f"traceback: {type(error).__name__} {_place(error)}", traceback.format_exc()) from None
    finally:
        sys.argv = argv
        sys.stdout, sys.stderr = streams
    given = Answer(code, *texts)
    _check(given, reports)
    return given


def accepted_or_refused(path: Path, near: NearValid, main: Callable[[], int]) -> str:
    """What becomes of a file when a command reads it. Raises Finding where what must fail is taken."""
    path.write_bytes(near.content)
    given = answer(main)
    if given.code == 0 and near.must_fail:
        raise Finding(f"silently taken: {near.change.split()[0]}", near.change)
    return "refused" if given.code else "accepted"


def _check(given: Answer, reports: bool) -> None:
    if given.code not in (0, 1, 2):
        raise Finding(f"exit code {given.code}", given.err)
    if "Traceback" in given.err:
        raise Finding("a traceback is printed", given.err)
    if given.code == 0:
        return
    lines = given.err.splitlines()
    begun = {1: "failed: ", 2: "error: "}[given.code]
    if not lines or not lines[-1].startswith(begun) or len(lines[-1]) < len(begun) + 8:
        raise Finding("no clear line at the end", given.err)
    if given.code == 2 and not reports and any(not line.startswith("warning: ") for line in lines[:-1]):
        raise Finding("more than one line", given.err)
    if not lines[-1].isprintable():
        raise Finding("a line with control characters", repr(given.err))
    if len(lines[-1]) > LONGEST_LINE:
        raise Finding("a line of endless length", given.err[:LONGEST_LINE])


def _place(error: BaseException) -> str:
    """The last line of the project's own code."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(PROJECT))]
    ours = [frame for frame in frames if "/fuzz/" not in frame.filename] or frames
    return f"{Path(ours[-1].filename).relative_to(PROJECT)}:{ours[-1].lineno}" if ours else "elsewhere"


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(_: int, frame: FrameType | None) -> None:
        shown = "".join(traceback.format_stack(frame)[-6:])
        raise Finding("hangs", shown)

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, WAITING_SECONDS))
    previous = {number: signal.signal(number, ring) for _, number, _ in timers}
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, number, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, previous[number])
