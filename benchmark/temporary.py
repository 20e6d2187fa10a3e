"""Temporary files whose names tell whose they are, so that what a killed process left can be cleared away. No torch."""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import time
from pathlib import Path

from benchmark.lock import start_of, this_machine

OWNED = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-(\d+)\.tmp")
"""How names end: machine, process, and when that started."""

SECONDS_UNTIL_ABANDONED = 24 * 3600.0
"""Of a file of another machine, whose processes can't be looked up."""


def temporary(path: Path) -> Path:
    """A path beside `path` that no other process uses, on whatever machine it sees the folder."""
    return path.with_name(f".{path.name}.{_owner(os.getpid())}.tmp")


def clear(*folders: Path) -> None:
    """Remove what dead processes left in these folders, as far as that is certain."""
    for folder in folders:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if (owned := OWNED.fullmatch(name)) and _is_abandoned(folder / name, *owned.groups()):
                    _remove(folder / name)


def _is_abandoned(path: Path, machine: str, process: str, started: str) -> bool:
    if machine == _digest(this_machine()):
        return start_of(int(process)) != int(started)
    try:
        return time.time() - os.lstat(path).st_mtime > SECONDS_UNTIL_ABANDONED
    except OSError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@functools.cache
def _owner(process: int) -> str:
    return f"{_digest(this_machine())}-{process}-{start_of(process) or 0}"


def _digest(machine: str) -> str:
    return hashlib.sha256(machine.encode()).hexdigest()[:8]
