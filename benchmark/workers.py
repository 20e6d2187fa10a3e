"""Runs on this machine: a queue and a fixed number of workers, a process for each run.

A run's process is forked from a server that has torch imported already, so it starts in no time, its memory is its own
and its crash ends nobody else. A worker has its own GPU, or its share of the CPU cores.
"""

import contextlib
import multiprocessing
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
from benchmark.errors import UserError, WorkError
from benchmark.machine import Machine, num_cores
from benchmark.progress import Reporter
from benchmark.store import Busy, Results

SECONDS_BEFORE_ASKING_AGAIN = 1.0
"""For a run that another sweep is at."""


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
    slot: int


@dataclass
class Pool:
    """Carries out runs. `on_start`, `on_end` and `on_wait` are told what happens; `on_wait` about twice a second."""

    results: Results
    machine: Machine
    num_workers: int
    num_gpus: int
    retry_failed: bool = False
    on_start: Callable[[Run], None] = lambda _: None
    on_end: Callable[[Outcome], None] = lambda _: None
    on_wait: Callable[[], None] = lambda: None
    _workers: list[Worker] = field(default_factory=list)

    def carry_out(self, runs: Sequence[Run]) -> list[Outcome]:
        """Every run's outcome; a busy run is asked again until its holder is done.

        Raises KeyboardInterrupt at Ctrl-C and SIGTERM, UserError and WorkError at the first wrong input or unwritable
        folder that a run meets; always after the runs under way have saved their state.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmark.run"])
        queue, not_before = deque(runs), dict.fromkeys((run.key for run in runs), 0.0)
        outcomes: list[Outcome] = []
        asked_to_stop: list[int] = []
        previous = {n: signal.signal(n, lambda n, _: asked_to_stop.append(n)) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            while (queue or self._workers) and not asked_to_stop:
                self._fill(context, queue, not_before)
                wait([worker.process.sentinel for worker in self._workers], timeout=0.5)
                self.on_wait()
                for outcome in self._ended():
                    if outcome.state == "wrong":
                        raise UserError(outcome.reason)
                    if outcome.state == "unwritable":
                        raise WorkError(outcome.reason)
                    if outcome.state == "busy":
                        queue.append(outcome.run)
                        not_before[outcome.run.key] = time.monotonic() + SECONDS_BEFORE_ASKING_AGAIN
                    else:
                        outcomes.append(outcome)
                        self.on_end(outcome)
        finally:
            self._stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if asked_to_stop:
            raise KeyboardInterrupt
        return outcomes

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
            slot = min(free)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(run, self.results, *self._share(slot), self.retry_failed, sender)
            )
            process.start()
            sender.close()
            self._workers.append(Worker(run, process, receiver, slot))
            self.on_start(run)

    def _share(self, slot: int) -> tuple[Machine, str | None]:
        """A worker's threads, and its GPU as CUDA_VISIBLE_DEVICES counts."""
        if self.num_gpus and self.machine.device in ("auto", "cuda"):
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            gpu = slot % self.num_gpus
            return self.machine, visible[gpu] if len(visible) >= self.num_gpus and visible[0] else str(gpu)
        threads = self.machine.threads or max(1, num_cores() // self.num_workers)
        return replace(self.machine, threads=threads), None

    def _ended(self) -> list[Outcome]:
        ended = [worker for worker in self._workers if not worker.process.is_alive()]
        self._workers = [worker for worker in self._workers if worker not in ended]
        return [_outcome(worker) for worker in ended]

    def _stop(self) -> None:
        """Ask what still runs to save its state, and wait for it."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        self._workers = []


def _outcome(worker: Worker) -> Outcome:
    worker.process.join()
    with contextlib.suppress(EOFError):
        state, reason = worker.outcome.recv()
        return Outcome(worker.run, state, reason)
    code = worker.process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Outcome(worker.run, "crashed", f"its process was {how}; the same sweep again goes on with it")


def _work(
    run: Run, results: Results, machine: Machine, gpu: str | None, retry_failed: bool, outcome: Connection
) -> None:
    """A run's process."""
    from benchmark.run import execute, stop_on_signals
    from benchmark.trainer import Stopped

    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    asked_to_stop = stop_on_signals()
    # Asked for no event, a pipe's writing end still tells when the reading end is gone, and with it the sweep.
    sweep = select.poll()
    sweep.register(outcome.fileno(), 0)
    folder = results.run_dir(run.key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        report = Reporter(folder, lambda: asked_to_stop() or bool(sweep.poll(0)))
        row = execute(run, results, machine, report, retry_failed)
        said = (row["status"], row["reason"] or "")
    except Busy:
        said = ("busy", "")
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
