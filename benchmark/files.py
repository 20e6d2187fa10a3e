"""Files that are written whole or not at all, set aside where they are damaged, and told apart by their stamps. No torch."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from benchmark.temporary import temporary

Stamp = tuple[int, int, int, int]
"""Time of the last change of content and of anything, size and inode: a file with an equal stamp was not changed."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename, fsync of the folder.

    Raises OSError, with the file's name. `durable=False` leaves out fsync, for files that may be lost with the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(path)
    try:
        unfinished.unlink(missing_ok=True)
        with open(unfinished, "xb") as file:  # never through a link that somebody put there
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_if_changed(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, lambda file: file.write(content))


def set_aside(path: Path, why: str) -> None:
    """Rename a damaged file to `*.damaged`, saying so: it is never used, and never lost."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(path.name + ".damaged"))
    warn(f"{path}: {why}; set aside as {path.name}.damaged")


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


@functools.cache
def warn_once(message: str) -> None:
    """For what a command comes upon every time it looks."""
    warn(message)


def stamp_of(path: str | Path | int) -> Stamp | None:
    """None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def is_own_file(path: Path) -> bool:
    """A file and no link: what a link leads to is not copied to where others read it."""
    return path.is_file() and not path.is_symlink()


def open_log(folder: Path) -> int:
    """The descriptor of a folder's log, to be written at its end. Raises OSError, also where it is a link."""
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)


def names_in(folder: Path) -> set[str]:
    """Empty where there is no such folder."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
