"""What is done to a sweep. Each fault tells whether it met the program at work; it came too late where it did not."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from .sweeps import Sweep, send, server_of, workers_of

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
TMPFS_MEGABYTES = 48
TIMED = ("lock.*", "progress.json", "row.json", "checkpoint.state", "rows.jsonl", ".rows.cache", "log")


class Attacked(Protocol):
    """A results folder with sweeps at work on it."""

    results: Path
    sweeps: list[Sweep]
    draw: random.Random

    def working(self) -> list[Sweep]: ...

    def start(self) -> None: ...


Fault = Callable[[Attacked], bool]


def signal_to(victims: Callable[[Sweep], list[int]], number: int) -> Fault:
    def fault(attacked: Attacked) -> bool:
        found = [(sweep, pid) for sweep in attacked.working() for pid in victims(sweep)]
        if not found:
            return False
        sweep, pid = attacked.draw.choice(found)
        if pid == sweep.pid:
            sweep.sent.add(number)
        elif victims is server_of and number == signal.SIGKILL:
            sweep.lost_its_server = True
        return send(pid, number)

    return fault


def fill_disk(attacked: Attacked) -> bool:
    """No byte is free for up to three seconds."""
    ballast = attacked.results.parent / "ballast"
    met = bool(attacked.working())
    for sweep in attacked.working():
        sweep.saw_full_disk = True
    try:
        with open(ballast, "wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(_Full), _telling_full():
                    while True:
                        file.write(b"\0" * size)
        time.sleep(attacked.draw.uniform(0.3, 3.0))
    finally:
        ballast.unlink(missing_ok=True)
    return met


def jump(direction: int) -> Fault:
    """Files that sweeps look at bear times that are hours away."""

    def fault(attacked: Attacked) -> bool:
        files = [path for name in TIMED for path in attacked.results.rglob(name)]
        met = False
        for path in attacked.draw.sample(files, min(len(files), 8)):
            then = time.time() + direction * 3600 * attacked.draw.uniform(1, 48)
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (then, then))
                met = True
        return met and bool(attacked.working())

    return fault


def more_sweeps(number: int) -> Fault:
    """That many at once on the same folder."""

    def fault(attacked: Attacked) -> bool:
        met = bool(attacked.working())
        while len(attacked.working()) < number:
            attacked.start()
        return met

    return fault


VICTIMS: dict[str, Callable[[Sweep], list[int]]] = {
    "the sweep": lambda sweep: [sweep.pid],
    "a run": workers_of,
    "the fork server": server_of,
}

FAULTS: dict[str, Fault] = {
    **{
        f"{number.name} to {name}": signal_to(victims, number)
        for name, victims in VICTIMS.items()
        for number in SIGNALS
    },
    "file times hours back": jump(-1),
    "file times hours ahead": jump(+1),
    "two sweeps at once": more_sweeps(2),
    "four sweeps at once": more_sweeps(4),
    "full disk": fill_disk,
}

WEIGHTS = {
    **{f"{number.name} to the sweep": 0.5 for number in SIGNALS},
    **{f"{number.name} to a run": 1.5 for number in SIGNALS},
    "two sweeps at once": 0.3,
    "four sweeps at once": 0.15,
}
"""How often a fault is drawn, where that is not 1. Sweeps take long to start, and many at once make all else slow."""


def choose(draw: random.Random, number: int, can_fill: bool) -> list[str]:
    kinds = [kind for kind in FAULTS if kind != "full disk" or can_fill]
    return draw.choices(kinds, [WEIGHTS.get(kind, 1.0) for kind in kinds], k=number)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own at `folder`, which a fault can fill; False where this user may mount none."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MEGABYTES}m", "none", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


class _Full(Exception):
    pass


@contextlib.contextmanager
def _telling_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _Full from None
