"""Processes by number and start time, so that a number which is used again is never taken for the old process."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.lock import start_of


@dataclass(frozen=True)
class Process:
    pid: int
    started: int
    """Clock ticks since boot."""

    @property
    def lives(self) -> bool:
        return start_of(self.pid) == self.started

    def signal(self, number: int) -> None:
        if self.lives:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def living() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (started := start_of(int(entry))) is not None:
            yield Process(int(entry), started)


def end(processes: Iterable[Process], patience: float) -> list[Process]:
    """SIGTERM, and SIGKILL after `patience` seconds; what lives even then."""
    left = list(processes)
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        for process in left:
            process.signal(number)
        left = wait_for_end(left, seconds)
    return left


def wait_for_end(processes: Iterable[Process], seconds: float) -> list[Process]:
    left, give_up_at = list(processes), time.monotonic() + seconds
    while (left := [process for process in left if process.lives]) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return left


def with_variable(name: str, value: str) -> list[Process]:
    """Processes that started with this variable in their environment."""
    wanted = f"{name}={value}".encode()
    return _those(lambda pid: wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


def steps_of(log_folder: Path, node: str = "") -> list[Process]:
    """The slurmstepd of a cluster, or of one of its nodes: it overwrites its environment, but keeps its log open."""
    wanted = str(log_folder / (f"slurmd-{node}.log" if node else "slurmd-"))

    def is_step(pid: int) -> bool:
        if os.path.basename(os.readlink(f"/proc/{pid}/exe")).partition(" ")[0] != "slurmstepd":
            return False
        return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith(wanted) for fd in os.listdir(f"/proc/{pid}/fd"))

    return _those(is_step)


def descendants(processes: Iterable[Process]) -> list[Process]:
    """The processes and all that they started, as far as their parents live."""
    everything = {process.pid: process for process in living()}
    found = {process.pid for process in processes}
    grew = True
    while grew:
        more = {pid for pid in everything if pid not in found and parent_of(pid) in found}
        grew = bool(more)
        found |= more
    return [everything[pid] for pid in found if pid in everything]


def ancestors() -> set[int]:
    """This process and those it comes from, which are never to be ended."""
    pid, found = os.getpid(), set[int]()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = parent_of(pid)
    return found


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _those(is_wanted: Callable[[int], bool]) -> list[Process]:
    found = []
    for process in living():
        with contextlib.suppress(OSError):  # gone, or another user's
            if is_wanted(process.pid):
                found.append(process)
    return found
