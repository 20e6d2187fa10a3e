"""The state of every run of a study, from the project's own files. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config import Run
from benchmark.endings import RETRIES, Why, read_ending
from benchmark.errors import printable
from benchmark.lock import SILENT_SECONDS, look
from benchmark.progress import describe, duration, read_progress
from benchmark.store import Results, Row

NOT_SUBMITTED, QUEUED, RUNNING = "not submitted", "queued", "running"
INTERRUPTED, FAILED, FINISHED = "interrupted", "failed", "finished"

LAST_LINES = 3


@dataclass(frozen=True)
class RunState:
    run: Run
    state: str
    """One of the six above. An interrupted run has no row, and the same sweep again goes on with it."""
    detail: str = ""
    why: Why | None = None
    """Of failed and interrupted runs, where it is known."""

    @property
    def is_to_do(self) -> bool:
        """Whether the next sweep works on it without being told to retry."""
        return self.state in (NOT_SUBMITTED, INTERRUPTED)


def run_states(runs: Sequence[Run], results: Results, rows: dict[str, Row]) -> Iterator[RunState]:
    """Looks into the folders of unfinished runs only."""
    begun = results.begun()
    for run in runs:
        row = rows.get(run.key)
        if row is not None and row["status"] != "failed":
            yield RunState(run, FINISHED, row["reason"] or "")
        elif run.key not in begun and row is None:
            yield RunState(run, NOT_SUBMITTED)
        else:
            yield unfinished_state(run, results.run_dir(run.key), row)


def unfinished_state(run: Run, folder: Path, row: Row | None) -> RunState:
    lock = look(folder)
    if lock is not None and lock.is_held:
        said = read_progress(folder)
        detail = f"{said['stage']} epoch {describe(said)}" if said and said["updated"] >= lock.taken else "starting"
        if lock.silent_seconds >= SILENT_SECONDS:
            detail += f"; {lock.owner} has been silent for {duration(lock.silent_seconds)}"
        return RunState(run, RUNNING, detail)
    if row is not None:
        return RunState(run, FAILED, row["reason"] or "", row.get("failure") or "error")
    ending, said = read_ending(folder), read_progress(folder)
    at = f"at {100 * said['share']:.0f} %" if said else ""
    if ending is not None:
        detail = ", ".join(part for part in (str(ending), at) if part)
        return RunState(run, FAILED if ending.final else INTERRUPTED, detail, ending.why)
    if said or lock is not None:
        return RunState(run, INTERRUPTED, at or "before its first step")
    return RunState(run, NOT_SUBMITTED)


def last_lines(folder: Path) -> list[str]:
    """The end of a run's log."""
    try:
        with open(folder / "log", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [printable(line) for line in text.splitlines() if line.strip()][-LAST_LINES:]


def with_state(known: RunState, state: str, detail: str = "") -> RunState:
    return replace(known, state=state, detail=detail, why=None)


def to_do(states: Sequence[RunState], retry: str | None = None) -> list[Run]:
    """The runs that a sweep works on; `retry` adds failed ones of a class of RETRIES."""
    again = RETRIES[retry] if retry else ()
    return [s.run for s in states if s.is_to_do or (s.state == FAILED and (s.why or "error") in again)]
