"""One process at a time works on a run, wherever the results folder is mounted. No torch.

A run's folder holds `lock.N`: who works on it (host, process, job), and, as the file's time, the last sign of life.
A released or a dead owner's lock is followed by `lock.N+1`, which exactly one process can create; the highest number
counts. Whoever finds a higher one than its own has lost the run and stops. Nothing is ever deleted to take a lock over,
so two processes that find the same dead owner can't delete each other's claim.

An owner on this machine is dead when its process is gone; one elsewhere, when it gave no sign of life for a minute and
gives none while it is watched. Only the age of the last sign depends on the hosts' clocks, and watching makes up for it.
"""

import contextlib
import errno
import functools
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmark.errors import WorkError

BEAT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""Without a sign of life; then an owner on another host may be dead."""


class Busy(Exception):
    """Another process holds the run."""


@dataclass(frozen=True)
class Owner:
    host: str
    machine: str
    """What process numbers are counted in: host name, boot, and namespace of processes."""
    process: int
    started: int
    """Start of the process in clock ticks since boot: numbers are used again."""
    job: str | None
    """SLURM's, as squeue shows it."""

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.process} on {self.host}{job}"


@dataclass(frozen=True)
class Lock:
    """A lock as it was found on disk."""

    number: int
    owner: Owner | None
    """None while it is being written."""
    released: bool
    taken: float
    """When the owner took it, by its own clock, in seconds since 1970."""
    beat: float
    """Time of the last sign of life, by the file system's clock."""

    @property
    def silent_seconds(self) -> float:
        return max(0.0, time.time() - self.beat)

    @property
    def is_held(self) -> bool:
        """Whether its owner lives, as far as one look can tell: silence on another host counts as death."""
        if self.released:
            return False
        if self.owner is not None and self.owner.machine == this_machine():
            return start_of(self.owner.process) == self.owner.started
        return self.silent_seconds < SILENT_SECONDS


def look(run_dir: Path) -> Lock | None:
    """The lock that counts; None where nobody ever held the run."""
    number = 0
    for _ in range(100):
        number = _highest(run_dir)
        if number == 0:
            return None
        try:
            with open(run_dir / f"lock.{number}", "rb") as file:
                text, beat = file.read(), os.fstat(file.fileno()).st_mtime
            return _parse(number, text, beat)
        except FileNotFoundError:  # followed by the next one meanwhile
            time.sleep(0.01)
        except OSError:
            break
    return Lock(number, None, False, 0.0, time.time())


def is_held(run_dir: Path) -> bool:
    lock = look(run_dir)
    return lock is not None and lock.is_held


@contextlib.contextmanager
def claim(run_dir: Path) -> Iterator["Claim"]:
    """Hold a run's folder. Raises Busy where another process does, WorkError where the folder can't be written."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        claimed = Claim(run_dir)
    except OSError as error:
        raise WorkError(f"{run_dir}: can't be written ({error.strerror})") from None
    try:
        yield claimed
    finally:
        claimed.release()


class Claim:
    """A lock of this process's own; gives signs of life until it is released."""

    def __init__(self, run_dir: Path):
        self._folder = run_dir
        self._number = _free_number(run_dir)
        self._path = run_dir / f"lock.{self._number}"
        self._content = asdict(this_process()) | {"taken": time.time()}
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            raise _busy(run_dir) from None
        try:
            self._write(self._content | {"released": False})
            if _highest(run_dir) != self._number:  # what was found free was an old one
                raise _busy(run_dir)
        except BaseException:
            os.close(self._file)
            self._path.unlink(missing_ok=True)
            raise
        for number in _numbers(run_dir):
            if number < self._number:
                (run_dir / f"lock.{number}").unlink(missing_ok=True)
        self._lost = False
        self._released = threading.Event()
        self._signs = threading.Thread(target=self._give_signs, name="lock", daemon=True)
        self._signs.start()

    def check(self, *, now: bool = False) -> None:
        """Raises Busy where the run was lost; `now` looks at the disk rather than remembering the last look."""
        if now and not self._is_ours():
            self._lost = True
        if self._lost:
            raise Busy(f"{self._folder.name}: another process took it over")

    def release(self) -> None:
        self._released.set()
        self._signs.join()
        with contextlib.suppress(OSError):  # a full disk: then its owner counts as dead instead
            self._write(self._content | {"released": True})
        os.close(self._file)

    def _give_signs(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self._path)
            if not self._is_ours():
                self._lost = True
                return

    def _is_ours(self) -> bool:
        """No word from the file system is no proof of loss."""
        try:
            ours = os.stat(self._path).st_ino == os.fstat(self._file).st_ino
            return ours and _highest(self._folder) == self._number
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ESTALE)

    def _write(self, content: dict[str, object]) -> None:
        text = json.dumps(content).encode()
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))
        os.fsync(self._file)


def _free_number(run_dir: Path) -> int:
    """The number a new lock would have. Raises Busy where an owner lives."""
    lock = look(run_dir)
    if lock is None or lock.released:
        return 1 if lock is None else lock.number + 1
    if lock.is_held:
        raise _busy(run_dir, lock.owner)
    if lock.owner is None or lock.owner.machine != this_machine():
        time.sleep(1.5 * BEAT_SECONDS)  # clocks differ between hosts: watch for a sign
        if look(run_dir) != lock:
            raise _busy(run_dir, lock.owner)
    return lock.number + 1


def _busy(run_dir: Path, owner: Owner | None = None) -> Busy:
    return Busy(f"{run_dir.name}: another process is at it" + (f" ({owner})" if owner else ""))


def _parse(number: int, text: bytes, beat: float) -> Lock:
    try:
        content = json.loads(text)
        owner = Owner(**{field.name: content[field.name] for field in fields(Owner)})
        return Lock(number, owner, bool(content["released"]), float(content["taken"]), beat)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return Lock(number, None, False, 0.0, beat)


def _numbers(run_dir: Path) -> list[int]:
    try:
        names = os.listdir(run_dir)
    except FileNotFoundError:
        return []
    return [int(name[5:]) for name in names if name.startswith("lock.") and name[5:].isdecimal()]


def _highest(run_dir: Path) -> int:
    return max(_numbers(run_dir), default=0)


def this_process() -> Owner:
    return Owner(platform.node(), this_machine(), os.getpid(), start_of(os.getpid()) or 0, this_job())


@functools.cache
def this_machine() -> str:
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def this_job() -> str | None:
    """The SLURM job that this process runs in, as squeue shows it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def start_of(process: int) -> int | None:
    """When a process of this machine started; None where there is none that lives."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return None
        return _start_without_proc(process)
    except OSError:
        return None
    return None if state in "ZX" else int(rest[18])


def _start_without_proc(process: int) -> int | None:
    """macOS: that a process lives is all that is known of it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0
