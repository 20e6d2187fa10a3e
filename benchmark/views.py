"""What people see of a sweep: its runs' progress while they are trained here, and the state of every run."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress as Bars
from rich.progress import TaskID
from rich.text import Text

from benchmark.config import Run
from benchmark.errors import printable
from benchmark.progress import bars, describe, duration, read_progress
from benchmark.states import FAILED, FINISHED, INTERRUPTED, NOT_SUBMITTED, QUEUED, RUNNING, RunState, last_lines
from benchmark.store import Results
from benchmark.workers import Outcome, Pool

ORDER = (RUNNING, FAILED, INTERRUPTED, QUEUED, NOT_SUBMITTED, FINISHED)
"""What wants to be seen first."""
SECONDS_BETWEEN_LOOKS = 5.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def status_lines(states: Sequence[RunState], results: Results) -> Iterator[str]:
    """A line per run, and below a failed one's the end of its log."""
    for index, known in enumerate(states):
        run = known.run
        line = f"{index:4}  {run.key}  {run.label}  seed {run.seed}  {known.state}  {known.detail}"
        yield printable(line).rstrip()
        if known.state in (FAILED, INTERRUPTED) and known.why == "error":
            for line in last_lines(results.run_dir(run.key)):
                yield f"      | {line}"


def count_states(states: Sequence[RunState]) -> str:
    """`9 finished, 2 running, 3 queued`"""
    counts = Counter(known.state for known in states)
    return ", ".join(f"{counts[state]} {state}" for state in reversed(ORDER) if counts[state])


def describe_unfinished(states: Sequence[RunState], results: Results) -> str:
    """What failed or is missing, in one line."""
    unfinished = [known for known in states if known.state != FINISHED]
    shown = [f"{known.run.key}: {_reason(known, results)}" for known in unfinished[:3]]
    more = f"; and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
    return f"{len(unfinished)} of {len(states)} runs failed or are missing: " + "; ".join(shown) + more


def _reason(known: RunState, results: Results) -> str:
    if known.state == FAILED:
        return f"{known.detail} (log: {results.run_dir(known.run.key) / 'log'})"
    if known.state in (INTERRUPTED, NOT_SUBMITTED):
        return f"did not finish{f' ({known.detail})' if known.detail else ''}"
    return known.state


def watch(name: str, look: Callable[[], list[RunState]]) -> None:
    """Show the states until nothing is left to wait for; one line per change where there is no terminal."""
    console, said = Console(), ""
    with (
        Live(console=console, screen=False, auto_refresh=False)
        if console.is_terminal
        else contextlib.nullcontext() as live
    ):
        while True:
            states = look()
            counts = f"{name}: {count_states(states)}"
            if live is not None:
                live.update(_screen(states, counts, console.size.height), refresh=True)
            elif counts != said:
                print(counts, flush=True)
                said = counts
            if not any(known.state in (RUNNING, QUEUED) for known in states):
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _screen(states: Sequence[RunState], counts: str, height: int) -> Group:
    """As many runs as fit, those that work first."""
    unfinished = sorted((s for s in states if s.state != FINISHED), key=lambda known: ORDER.index(known.state))
    shown = unfinished[: max(1, height - 3)]
    lines = [printable(f"{s.run.label}  seed {s.run.seed}  {s.state}  {s.detail}") for s in shown]
    if len(unfinished) > len(shown):
        lines.append(f"… and {len(unfinished) - len(shown)} more")
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in [*lines, counts]))


@contextlib.contextmanager
def shown_progress(pool: Pool, num_runs: int) -> Iterator[None]:
    """Show the pool's progress: bars on a terminal, a line per run elsewhere."""
    if sys.stderr.isatty():
        with bars() as shown:
            view = BarView(pool, shown, num_runs)
            pool.on_start, pool.on_end, pool.on_wait = view.start, view.end, view.refresh
            yield
    else:
        lines = LineView(num_runs)
        pool.on_start, pool.on_end = lines.start, lines.end
        yield


class LineView:
    """A line when a run starts and when it ends."""

    def __init__(self, num_runs: int):
        self.num_runs, self.num_ended = num_runs, 0
        self.started_at: dict[str, float] = {}

    def start(self, run: Run) -> None:
        self.started_at[run.key] = time.monotonic()

    def end(self, outcome: Outcome) -> None:
        self.num_ended += 1
        self.show(f"[{self.num_ended}/{self.num_runs}] {self.describe(outcome)}")

    def describe(self, outcome: Outcome) -> str:
        took = duration(time.monotonic() - self.started_at[outcome.run.key])
        return printable(f"{outcome.run.key}  {outcome.state} after {took}  {outcome.reason}").rstrip()

    def show(self, line: str) -> None:
        say(line)


class BarView(LineView):
    """The same lines above a bar for the study and one for each run under way."""

    def __init__(self, pool: Pool, shown: Bars, num_runs: int):
        super().__init__(num_runs)
        self.pool, self.shown = pool, shown
        self.whole = shown.add_task("study", total=num_runs, state=f"0/{num_runs} runs")
        self.bars: dict[str, TaskID] = {}

    def start(self, run: Run) -> None:
        super().start(run)
        if run.key in self.bars:  # started again: another sweep was at it
            self.shown.remove_task(self.bars[run.key])
        self.bars[run.key] = self.shown.add_task(f"{run.label} seed {run.seed}", total=1.0, state="starting")

    def end(self, outcome: Outcome) -> None:
        super().end(outcome)
        self.shown.remove_task(self.bars.pop(outcome.run.key))

    def refresh(self) -> None:
        shares = 0.0
        for key, bar in self.bars.items():
            said = read_progress(self.pool.results.run_dir(key))
            if said:
                shares += said["share"]
                self.shown.update(bar, completed=said["share"], state=f"{said['stage']} epoch {describe(said)}")
        state = f"{self.num_ended}/{self.num_runs} runs"
        self.shown.update(self.whole, completed=self.num_ended + shares, state=state)

    def show(self, line: str) -> None:
        self.shown.console.print(line, markup=False, highlight=False)
