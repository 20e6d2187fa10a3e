"""Runs on this machine: a queue and a fixed number of workers, a process for each run.

A run's process is forked from a server that has torch imported already, so it starts in no time, its memory is its own
and its crash ends nobody else. A worker has its own GPU, or its share of the CPU cores.
"""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, Literal

from benchmark.config import Run
from benchmark.endings import Ending, write_ending
from benchmark.errors import UserError, WorkError
from benchmark.files import open_log
from benchmark.lock import Busy, is_held, this_job
from benchmark.machine import STOP_SIGNALS, Machine, num_cores, num_oom_kills
from benchmark.progress import Reporter
from benchmark.store import Results

SECONDS_BEFORE_ASKING_AGAIN = 1.0
"""For a run that another sweep is at."""
MOST_FAILED_STARTS = 5
UNSEEN = 255
"""What multiprocessing says of any process whose server was killed, though it may live."""


@dataclass(frozen=True)
class Outcome:
    """How a run's process ended. `crashed` and `stopped` runs have no row; the same sweep again goes on with them."""

    run: Run
    state: Literal["done", "failed", "busy", "stopped", "wrong", "unwritable", "crashed"]
    reason: str = ""


@dataclass
class Worker:
    run: Run
    process: ForkServerProcess
    outcome: Connection
    """Where the process says what came of the run; closed when the process ends, which alone tells of that for certain."""
    slot: int

    @property
    def has_ended(self) -> bool:
        return self.outcome.poll()

    def ask_to_stop(self) -> None:
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)


@dataclass
class Pool:
    """Carries out runs. `on_start`, `on_end` and `on_wait` are told what happens; `on_wait` about twice a second."""

    results: Results
    machine: Machine
    num_workers: int
    num_gpus: int
    retry_before: str | None = None
    """Rows of runs that failed before this time (ISO, UTC) don't count."""
    waits_for_others: bool = True
    """Whether a run that another process is at is asked for again until that one is done."""
    deadline: float = float("inf")
    """On time.monotonic: then it stops as if asked to, and what can't end by then is not started."""
    seconds_left_of: Callable[[Run], float | None] = lambda _: None
    """How long a run still takes, as far as is known."""
    on_start: Callable[[Run], None] = lambda _: None
    on_end: Callable[[Outcome], None] = lambda _: None
    on_wait: Callable[[], None] = lambda: None
    stopped_by: int | None = None
    """The signal that ended the work early, 0 for the deadline."""
    left_out: list[tuple[Run, float]] = field(default_factory=list)
    """Runs that could not end in time, with the seconds that they take."""
    _workers: list[Worker] = field(default_factory=list)
    _oom_kills: int = field(default_factory=num_oom_kills)
    _failed_starts: int = 0

    def __post_init__(self) -> None:
        if self.num_gpus:
            self.machine = replace(self.machine, runs_per_gpu=-(-self.num_workers // self.num_gpus))

    def carry_out(self, runs: Sequence[Run]) -> list[Outcome]:
        """The outcomes of the runs that ended; of all, unless `stopped_by` or `left_out` tells otherwise.

        Raises UserError and WorkError at the first wrong input or unwritable folder that a run meets. It returns or
        raises after the runs under way have saved their state.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmark.fork_server"])
        queue, not_before = deque(runs), dict.fromkeys((run.key for run in runs), 0.0)
        outcomes: list[Outcome] = []
        previous = {number: signal.signal(number, self._ask_to_stop) for number in STOP_SIGNALS}
        try:
            while (queue or self._workers) and self.stopped_by is None:
                self._fill(context, queue, not_before)
                wait([worker.outcome for worker in self._workers], timeout=0.5)
                self.on_wait()
                for outcome in self._ended():
                    if outcome.state == "wrong":
                        raise UserError(outcome.reason)
                    if outcome.state == "unwritable":
                        raise WorkError(outcome.reason)
                    if outcome.state == "busy" and self.waits_for_others:
                        queue.append(outcome.run)
                        not_before[outcome.run.key] = time.monotonic() + SECONDS_BEFORE_ASKING_AGAIN
                    else:
                        outcomes.append(outcome)
                        self.on_end(outcome)
                if time.monotonic() > self.deadline:
                    self.stopped_by = 0
        finally:
            self._stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return outcomes

    def _ask_to_stop(self, number: int, _: object) -> None:
        self.stopped_by = number

    def _fill(self, context: Any, queue: deque[Run], not_before: dict[str, float]) -> None:
        """Start runs whose time has come on free workers."""
        for _ in range(len(queue)):
            free = set(range(self.num_workers)) - {worker.slot for worker in self._workers}
            if not free:
                return
            run = queue.popleft()
            if not_before[run.key] > time.monotonic():
                queue.append(run)
                continue
            if self.waits_for_others and is_held(self.results.run_dir(run.key)):
                queue.append(run)
                not_before[run.key] = time.monotonic() + SECONDS_BEFORE_ASKING_AGAIN
                continue
            seconds = self.seconds_left_of(run)
            if seconds is not None and time.monotonic() + seconds > self.deadline:
                self.left_out.append((run, seconds))
                continue
            slot = min(free)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(run, self.results, *self._share(slot), self.retry_before, sender)
            )
            try:
                _start_forkserver()
                process.start()
            except (EOFError, OSError):
                self._count_failed_start(run)
                queue.appendleft(run)
                return
            self._failed_starts = 0
            sender.close()
            self._workers.append(Worker(run, process, receiver, slot))
            self.on_start(run)

    def _share(self, slot: int) -> tuple[Machine, str | None]:
        """A worker's threads, and its GPU as CUDA_VISIBLE_DEVICES counts."""
        threads = self.machine.threads or max(1, num_cores() // self.num_workers)
        gpu = None
        if self.num_gpus and self.machine.device in ("auto", "cuda"):
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            index = slot % self.num_gpus
            gpu = visible[index] if len(visible) >= self.num_gpus and visible[0] else str(index)
        return replace(self.machine, threads=threads), gpu

    def _ended(self) -> list[Outcome]:
        ended = [worker for worker in self._workers if worker.has_ended]
        self._workers = [worker for worker in self._workers if worker not in ended]
        return [self._outcome(worker) for worker in ended]

    def _outcome(self, worker: Worker) -> Outcome:
        said = None
        with contextlib.suppress(EOFError):
            said = worker.outcome.recv()
        worker.process.join()  # until then it may hold memory of its GPU
        if said is not None:
            return Outcome(worker.run, *said)
        code = worker.process.exitcode or 0
        folder = self.results.run_dir(worker.run.key)
        if self._ran_out_of_memory():
            write_ending(folder, Ending("oom_host", final=True, job=this_job()))
            return Outcome(worker.run, "crashed", "out of memory on host; --retry oom tries it again")
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == UNSEEN:
            how = "killed"
        write_ending(folder, Ending("error", f"its process was {how}", job=this_job()))
        return Outcome(worker.run, "crashed", f"its process was {how}; the same sweep again goes on with it")

    def _ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed for want of memory since this was asked last."""
        before, self._oom_kills = self._oom_kills, num_oom_kills()
        return self._oom_kills > before

    def _count_failed_start(self, run: Run) -> None:
        """The server was killed, perhaps before it could serve. Raises WorkError where that is no accident."""
        self._failed_starts += 1
        if self._failed_starts == MOST_FAILED_STARTS:
            why = "out of memory on host" if self._ran_out_of_memory() else "it is killed again and again"
            if why.startswith("out of memory"):
                ending = Ending("oom_host", "before its first step", final=True, job=this_job())
                write_ending(self.results.run_dir(run.key), ending)
            raise WorkError(f"{run.key}: no process for it can be started: {why}")

    def _stop(self) -> None:
        """Ask what still runs to save its state, and wait for it."""
        while self._workers:
            for worker in self._workers:
                worker.ask_to_stop()
            wait([worker.outcome for worker in self._workers], timeout=1.0)
            self._workers = [worker for worker in self._workers if not worker.has_ended]


def _start_forkserver() -> None:
    """SLURM, a terminal and `timeout` signal whole groups of processes. The server that forks the runs holds signals back,
    so that it lives to tell how they ended; each run listens for itself, to what came before it did so, too."""
    multiprocessing.resource_tracker.ensure_running()  # else the server starts it, and then lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # inherited by what starts now
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    run: Run, results: Results, machine: Machine, gpu: str | None, retry_before: str | None, outcome: Connection
) -> None:
    """A run's process."""
    from benchmark.run import execute, stop_on_signals
    from benchmark.trainer import Stopped

    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    asked_to_stop = stop_on_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    # Asked for no event, a pipe's writing end still tells when the reading end is gone, and with it the sweep.
    sweep = select.poll()
    sweep.register(outcome.fileno(), 0)
    folder = results.run_dir(run.key)
    try:
        log = open_log(folder)
        for stream in (1, 2):
            os.dup2(log, stream)
        report = Reporter(folder, lambda: asked_to_stop() or bool(sweep.poll(0)))
        row = execute(run, results, machine, report, retry_before)
        said = (row["status"], row["reason"] or "")
    except Busy as error:
        said = ("busy", str(error))
    except Stopped:
        said = ("stopped", "stopped; the same sweep again goes on with it")
    except UserError as error:
        said = ("wrong", str(error))
    except WorkError as error:
        said = ("unwritable", str(error))
    except OSError as error:
        said = ("unwritable", f"{error.filename or folder}: can't be written ({error.strerror})")
    with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it
        outcome.send(said)
