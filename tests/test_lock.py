"""Who holds a run's folder: real processes that race, are killed and are stopped, and owners on other hosts, forged."""

import contextlib
import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import lock
from benchmark.errors import WorkError
from benchmark.lock import Busy, Claim, claim, is_held, look, this_machine

NUM_RACERS = 4
OLD_SECONDS = 3600.0

HOLDER = """
import sys, time
from pathlib import Path
from benchmark.lock import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

RACER = """
import sys, time
from pathlib import Path
from benchmark import lock
lock.BEAT_SECONDS, lock.SILENT_SECONDS = 0.02, 60.0
for line in sys.stdin:
    folder, start = line.rstrip("\\n").split("\\t")
    while time.monotonic() < float(start):
        pass
    try:
        claimed = lock.Claim(Path(folder))
    except lock.Busy:
        print("busy", flush=True)
        sys.stdin.readline()
    else:
        print("won", flush=True)
        sys.stdin.readline()
        claimed.check(now=True)
        claimed.release()
    print("ready", flush=True)
"""

BRAWLER = """
import os, random, sys, time
from pathlib import Path
from benchmark import lock
folder, seed, end = Path(sys.argv[1]), int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
draw, wins, look = random.Random(seed), 0, lock._free_number

def slow_look(run_dir):
    number = look(run_dir)
    if draw.random() < 0.5:
        time.sleep(draw.random() * 0.02)
    return number

lock._free_number = slow_look
while time.monotonic() < end:
    dies, holds = draw.random() < 0.5, draw.random() * 0.002
    slow = draw.random()
    child = os.fork()
    if not child:
        code = 1
        try:
            draw.seed(slow)
            claimed = lock.Claim(folder)
            inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
            time.sleep(holds)
            claimed.check(now=True)
            os.unlink(folder / "inside")
            if not dies:
                claimed.release()
            code = 0
        except lock.Busy as busy:
            code = 3 if "took it over" in str(busy) else 2
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 2):
        sys.exit(f"two were inside, or a living owner lost its lock: {code}")
    wins += code == 0
print(wins)
"""


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


@contextlib.contextmanager
def holder(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a run."""
    process = python(HOLDER, run_dir)
    try:
        assert says(process) == "held"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def racers() -> Iterator[list[subprocess.Popen[str]]]:
    processes = [python(RACER) for _ in range(NUM_RACERS)]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def race(racers: list[subprocess.Popen[str]], run_dir: Path) -> list[str]:
    """What became of a claim by each, all begun at the same moment and held until all have tried."""
    start = time.monotonic() + 0.003
    for racer in racers:
        tell(racer, f"{run_dir}\t{start}")
    outcomes = [says(racer) for racer in racers]
    for racer in racers:
        tell(racer)
    assert [says(racer) for racer in racers] == ["ready"] * len(racers)
    return sorted(outcomes)


def forge(run_dir: Path, number: int = 1, *, silent: float = 0.0, **changes: Any) -> Path:
    """A lock as benchmark/lock.py writes it, of an owner on another host unless told otherwise."""
    run_dir.mkdir(parents=True, exist_ok=True)
    content = {"host": "far", "machine": "far boot pid", "process": 7, "started": 1, "job": None, "taken": 0.0}
    path = run_dir / f"lock.{number}"
    path.write_text(json.dumps(content | {"released": False} | changes))
    return last_beat(path, silent)


def last_beat(path: Path, seconds_ago: float) -> Path:
    os.utime(path, (time.time() - seconds_ago,) * 2)
    return path


def forge_dead(run_dir: Path, number: int = 1, **changes: Any) -> Path:
    """A young lock of a process of this machine that is gone."""
    changes = {"host": platform.node(), "machine": this_machine(), "process": os.getpid(), "started": 1} | changes
    return forge(run_dir, number, **changes)


def numbers(run_dir: Path) -> list[int]:
    return sorted(int(path.suffix[1:]) for path in run_dir.glob("lock.*"))


def is_free(run_dir: Path) -> bool:
    try:
        with claim(run_dir):
            return True
    except Busy:
        return False


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[float]]:
    """Replaces waiting: something happens meanwhile, and how long was waited is kept."""

    def replace(happens: Callable[[], object] = lambda: None) -> list[float]:
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            happens()

        monkeypatch.setattr(lock.time, "sleep", sleep)
        return waits

    return replace


@pytest.fixture
def slow_claimer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Callable[[], object]], Claim]:
    """Claims a run, but things happen between its look at the folder and what it does then."""

    def start(run_dir: Path, meanwhile: Callable[[], object]) -> Claim:
        original = lock._free_number

        def paused(folder: Path) -> int:
            monkeypatch.setattr(lock, "_free_number", original)
            number = original(folder)
            meanwhile()
            return number

        monkeypatch.setattr(lock, "_free_number", paused)
        return Claim(run_dir)

    return start


Slow = Callable[[Path, Callable[[], object]], Claim]
Watched = Callable[..., list[float]]


# Races of real processes


def test_one_of_many_processes_gets_a_fresh_run(racers: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    for index in range(40):
        (tmp_path / str(index)).mkdir()
        assert race(racers, tmp_path / str(index)) == ["busy"] * (NUM_RACERS - 1) + ["won"]


def test_one_of_two_processes_gets_a_fresh_run(racers: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    for index in range(80):
        (tmp_path / str(index)).mkdir()
        assert race(racers[:2], tmp_path / str(index)) == ["busy", "won"]


def test_one_of_many_processes_takes_over_from_a_dead_owner(
    racers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    for number in range(1, 41):
        forge_dead(tmp_path, 2 * number)
        assert race(racers, tmp_path) == ["busy"] * (NUM_RACERS - 1) + ["won"]
        assert numbers(tmp_path) == [2 * number + 1]


def test_one_of_many_processes_takes_over_from_a_silent_host(
    racers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    for number in range(1, 16):
        forge(tmp_path, 2 * number, silent=OLD_SECONDS)
        assert race(racers, tmp_path) == ["busy"] * (NUM_RACERS - 1) + ["won"]
        assert numbers(tmp_path) == [2 * number + 1]


def test_one_of_many_processes_gets_a_released_run(racers: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    for _ in range(40):
        assert race(racers, tmp_path) == ["busy"] * (NUM_RACERS - 1) + ["won"]
        assert len(numbers(tmp_path)) == 1


def test_never_two_are_inside_while_owners_come_die_and_look_slowly(tmp_path: Path) -> None:
    brawlers = [python(BRAWLER, tmp_path, seed, 2.5) for seed in range(NUM_RACERS)]
    ends = [brawler.communicate(timeout=60) for brawler in brawlers]
    assert [brawler.returncode for brawler in brawlers] == [0] * NUM_RACERS, ends
    assert sum(int(out) for out, _ in ends) > 20, "hardly anybody ever got in"
    assert is_free(tmp_path)
    assert len(numbers(tmp_path)) == 1


# A slow claimer: what it found is old when it acts on it


def test_slow_claimer_of_a_fresh_run_finds_it_taken(slow_claimer: Slow, tmp_path: Path) -> None:
    others: list[Claim] = []
    with pytest.raises(Busy):
        slow_claimer(tmp_path, lambda: others.append(Claim(tmp_path)))
    others[0].check(now=True)
    assert numbers(tmp_path) == [1]
    others[0].release()


@pytest.mark.parametrize("prepare", [forge_dead, lambda folder: forge(folder, released=True)], ids=["dead", "released"])
def test_slow_claimer_finds_that_another_was_quicker(
    prepare: Callable[[Path], Path], slow_claimer: Slow, tmp_path: Path
) -> None:
    prepare(tmp_path)
    others: list[Claim] = []
    with pytest.raises(Busy):
        slow_claimer(tmp_path, lambda: others.append(Claim(tmp_path)))
    others[0].check(now=True)
    assert numbers(tmp_path) == [2]
    others[0].release()


@pytest.mark.parametrize("prepare", [forge_dead, lambda folder: forge(folder, released=True)], ids=["dead", "released"])
@pytest.mark.parametrize("times", [2, 3, 5])
def test_slow_claimer_loses_after_others_took_released_and_took_the_lock(
    times: int, prepare: Callable[[Path], Path], slow_claimer: Slow, tmp_path: Path
) -> None:
    """The number that it found free is free again, for its file was cleared away."""
    prepare(tmp_path)
    others: list[Claim] = []

    def take_and_release() -> None:
        for _ in range(times - 1):
            Claim(tmp_path).release()
        others.append(Claim(tmp_path))
        assert not (tmp_path / "lock.2").exists()

    with pytest.raises(Busy):
        slow_claimer(tmp_path, take_and_release)
    others[0].check(now=True)
    assert numbers(tmp_path) == [1 + times]
    assert not is_free(tmp_path)
    others[0].release()
    assert is_free(tmp_path)


def test_slow_claimer_does_not_undo_a_release(slow_claimer: Slow, tmp_path: Path) -> None:
    forge(tmp_path, released=True)
    with pytest.raises(Busy):
        slow_claimer(tmp_path, lambda: [Claim(tmp_path).release() for _ in range(3)])
    assert numbers(tmp_path) == [4]
    assert is_free(tmp_path)


def test_claim_that_is_not_written_in_time_is_taken_over_and_gives_way(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, tmp_path: Path
) -> None:
    """Stopped for long between creating its file and writing into it."""
    watched()
    original, others = Claim._write, list[Claim]()

    def paused(self: Claim, content: dict[str, object]) -> None:
        monkeypatch.setattr(Claim, "_write", original)
        assert not is_free(tmp_path), "a young lock that is being written is held"
        last_beat(tmp_path / "lock.1", OLD_SECONDS)
        others.append(Claim(tmp_path))
        original(self, content)

    monkeypatch.setattr(Claim, "_write", paused)
    with pytest.raises(Busy):
        Claim(tmp_path)
    others[0].check(now=True)
    assert numbers(tmp_path) == [2]
    others[0].release()


def test_claim_of_an_old_number_is_no_lock_even_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, slow_claimer: Slow, tmp_path: Path
) -> None:
    forge(tmp_path, released=True)
    original, seen = Claim._write, list[int]()

    def looked_at(self: Claim, content: dict[str, object]) -> None:
        original(self, content)
        found = look(tmp_path)
        assert found is not None
        seen.append(found.number)

    def meanwhile() -> None:
        Claim(tmp_path).release()
        Claim(tmp_path).release()
        monkeypatch.setattr(Claim, "_write", looked_at)

    with pytest.raises(Busy):
        slow_claimer(tmp_path, meanwhile)
    assert seen == [3]


def test_lock_that_is_followed_while_it_is_looked_at_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, tmp_path: Path
) -> None:
    forge(tmp_path, 1)
    original = lock._highest

    def listed(run_dir: Path) -> int:
        monkeypatch.setattr(lock, "_highest", original)
        number = original(run_dir)
        forge(run_dir, 2)
        (run_dir / "lock.1").unlink()
        return number

    watched()
    monkeypatch.setattr(lock, "_highest", listed)
    found = look(tmp_path)
    assert found is not None
    assert found.number == 2


# Owners on this machine


@pytest.mark.parametrize("reaped", [True, False])
def test_killed_owner_is_followed_at_once(reaped: bool, watched: Watched, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert not is_free(tmp_path)
        process.send_signal(signal.SIGKILL)
        if reaped:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        waits = watched()
        assert not is_held(tmp_path)
        assert is_free(tmp_path)
        assert not waits


def test_stopped_living_owner_is_never_followed(watched: Watched, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        last_beat(tmp_path / "lock.1", OLD_SECONDS)
        watched()
        assert is_held(tmp_path)
        assert not is_free(tmp_path)
        process.send_signal(signal.SIGCONT)
        tell(process)
        assert process.wait(timeout=20) == 0
        assert is_free(tmp_path)


def test_second_claim_of_the_same_process_is_busy(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(Busy, match=f"process {os.getpid()} on {platform.node()}"):
        Claim(tmp_path)


def test_process_number_used_again_is_another_process(tmp_path: Path) -> None:
    started = lock.start_of(os.getpid())
    assert started
    forge_dead(tmp_path, started=started)
    assert not is_free(tmp_path)
    forge_dead(tmp_path, started=started + 1)
    assert is_free(tmp_path)


def test_same_process_number_after_a_reboot_or_in_another_container_is_not_looked_up(tmp_path: Path) -> None:
    """Only its beat tells of it."""
    forge_dead(tmp_path, machine=f"{platform.node()} other-boot pid:[1]")
    assert is_held(tmp_path)
    last_beat(tmp_path / "lock.1", OLD_SECONDS)
    assert not is_held(tmp_path)


def test_without_proc_a_process_lives_while_it_can_be_signalled(tmp_path: Path) -> None:
    assert lock._start_without_proc(os.getpid()) == 0
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert lock._start_without_proc(gone.pid) is None
    assert lock.start_of(gone.pid) is None


# Owners on other hosts


def test_owner_elsewhere_that_gave_a_sign_is_busy_without_a_wait(watched: Watched, tmp_path: Path) -> None:
    forge(tmp_path, silent=lock.SILENT_SECONDS - 5, job="12_3")
    waits = watched()
    assert is_held(tmp_path)
    with pytest.raises(Busy, match="process 7 on far, job 12_3"):
        Claim(tmp_path)
    assert not waits


def test_owner_elsewhere_whose_clock_is_ahead_is_busy(tmp_path: Path) -> None:
    forge(tmp_path, silent=-OLD_SECONDS)
    found = look(tmp_path)
    assert found is not None
    assert found.silent_seconds == 0
    assert not is_free(tmp_path)


def test_owner_elsewhere_that_gives_a_sign_while_watched_is_busy(watched: Watched, tmp_path: Path) -> None:
    """Its clock is behind, or the file server's is."""
    path = forge(tmp_path, silent=OLD_SECONDS)
    waits = watched(lambda: last_beat(path, OLD_SECONDS - 10))
    assert not is_free(tmp_path)
    assert sum(waits) > lock.BEAT_SECONDS, "no sign could come in so short a time"
    assert numbers(tmp_path) == [1]


def test_owner_elsewhere_that_stays_silent_while_watched_is_followed(watched: Watched, tmp_path: Path) -> None:
    forge(tmp_path, silent=lock.SILENT_SECONDS + 5)
    waits = watched()
    with claim(tmp_path) as claimed:
        claimed.check(now=True)
        assert numbers(tmp_path) == [2]
    assert sum(waits) > lock.BEAT_SECONDS


def test_whoever_takes_over_while_another_watches_is_left_alone(watched: Watched, tmp_path: Path) -> None:
    forge(tmp_path, silent=OLD_SECONDS)
    watched(lambda: forge(tmp_path, 2))
    assert not is_free(tmp_path)
    assert numbers(tmp_path) == [1, 2]


def test_silence_is_counted_in_real_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "SILENT_SECONDS", 0.3)
    forge(tmp_path)
    began = time.monotonic()
    assert not is_free(tmp_path)
    while not is_free(tmp_path):
        assert time.monotonic() < began + 20
        time.sleep(0.02)
    assert time.monotonic() - began > 0.3


# A living owner whose lock is gone


def delete_lock(run_dir: Path) -> None:
    (run_dir / "lock.1").unlink()


def delete_folder(run_dir: Path) -> None:
    shutil.rmtree(run_dir)


def delete_and_take(run_dir: Path) -> None:
    delete_lock(run_dir)
    forge(run_dir)


def supersede(run_dir: Path) -> None:
    forge(run_dir, 2)


LOSSES = pytest.mark.parametrize("lose", [delete_lock, delete_folder, delete_and_take, supersede])


@LOSSES
def test_owner_notices_a_lost_lock_when_it_looks(lose: Callable[[Path], None], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with claim(run_dir) as claimed:
        claimed.check(now=True)
        lose(run_dir)
        claimed.check()
        with pytest.raises(Busy, match="run: another process took it over"):
            claimed.check(now=True)
        with pytest.raises(Busy):
            claimed.check()


@LOSSES
def test_owner_notices_a_lost_lock_at_its_next_beat(
    lose: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    with claim(tmp_path / "run") as claimed:
        time.sleep(0.1)
        claimed.check()
        lose(tmp_path / "run")
        deadline = time.monotonic() + 20
        with contextlib.suppress(Busy):
            while time.monotonic() < deadline:
                claimed.check()
                time.sleep(0.01)
        with pytest.raises(Busy):
            claimed.check()


def test_release_of_a_lost_lock_does_not_release_its_follower(tmp_path: Path) -> None:
    with claim(tmp_path):
        delete_and_take(tmp_path)
    assert is_held(tmp_path)


def test_silence_of_the_file_system_is_no_loss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with claim(tmp_path) as claimed:

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "no answer")

        with monkeypatch.context() as patch:
            patch.setattr(lock.os, "stat", fail)
            claimed.check(now=True)
        claimed.check(now=True)


# What a lock says, and what it is when it is over


def test_released_lock_is_free_at_once(watched: Watched, tmp_path: Path) -> None:
    waits = watched()
    for number in range(1, 4):
        assert not is_held(tmp_path)
        with claim(tmp_path):
            assert is_held(tmp_path)
            assert numbers(tmp_path) == [number]
    assert not waits
    found = look(tmp_path)
    assert found is not None
    assert found.released


def test_failed_work_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim(tmp_path):
        raise ZeroDivisionError
    assert is_free(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "lock"]


def test_nobody_holds_a_run_without_a_folder(tmp_path: Path) -> None:
    assert look(tmp_path / "run") is None
    assert not is_held(tmp_path / "run")
    with claim(tmp_path / "deep" / "run"):
        assert is_held(tmp_path / "deep" / "run")


def test_lock_tells_owner_host_job_and_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_JOB_ID", "15")
    before = time.time()
    with claim(tmp_path):
        found = look(tmp_path)
        assert found is not None
        assert found.owner == lock.this_process()
        assert found.owner.process == os.getpid()
        assert found.owner.host == platform.node()
        assert found.owner.job == "12_3"
        assert str(found.owner) == f"process {os.getpid()} on {platform.node()}, job 12_3"
        assert not found.released
        assert before <= found.taken <= time.time()
        assert json.loads((tmp_path / "lock.1").read_text())["job"] == "12_3"


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "15"}, "15"),
        ({"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0"}, "12_0"),
    ],
)
def test_job_is_told_as_squeue_shows_it(
    environment: dict[str, str], job: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert lock.this_process().job == job


def test_lock_beats_while_it_is_held_and_no_longer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    path = tmp_path / "lock.1"
    with claim(tmp_path):
        for _ in range(3):
            last_beat(path, OLD_SECONDS)
            deadline = time.monotonic() + 20
            while time.time() - path.stat().st_mtime > 60:
                assert time.monotonic() < deadline, "no sign of life"
                time.sleep(0.01)
    last_beat(path, OLD_SECONDS)
    time.sleep(0.1)
    assert time.time() - path.stat().st_mtime > 60


# Damage

WHOLE = json.dumps(
    {"host": "far", "machine": "far", "process": 7, "started": 1, "job": None, "taken": 0.0, "released": False}
).encode()
GARBAGE = {
    "empty": b"",
    "truncated": WHOLE[: len(WHOLE) // 2],
    "half-released": WHOLE + b"}",
    "zeros": b"\0" * 200,
    "binary": bytes(range(256)),
    "text": b"locked",
    "null": b"null",
    "list": b"[1, 2]",
    "string": b'"host"',
    "number": b"5",
    "other keys": b'{"a": 1}',
    "owner only": b'{"host": "far", "machine": "far", "process": 7, "started": 1, "job": null}',
    "taken is text": WHOLE.replace(b"0.0", b'"noon"'),
    "taken is huge": WHOLE.replace(b"0.0", b"1" + b"0" * 400),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_damaged_lock_crashes_nobody_and_is_freed_after_silence(
    content: bytes, watched: Watched, tmp_path: Path
) -> None:
    watched()
    path = tmp_path / "lock.4"
    path.write_bytes(content)
    found = look(tmp_path)
    assert found is not None
    assert (found.owner, found.released) == (None, False)
    assert is_held(tmp_path)
    assert not is_free(tmp_path)
    last_beat(path, OLD_SECONDS)
    assert not is_held(tmp_path)
    assert is_free(tmp_path)
    assert numbers(tmp_path) == [5]


def test_damaged_lock_whose_owner_gives_a_sign_while_watched_is_busy(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "lock.1"
    path.write_text("")
    last_beat(path, OLD_SECONDS)
    watched(lambda: last_beat(path, OLD_SECONDS - 10))
    assert not is_free(tmp_path)


@pytest.mark.parametrize("process", ["seven", None, [7], 7.5, "../self", -1])
def test_owner_that_is_no_process_is_dead(process: object, tmp_path: Path) -> None:
    forge_dead(tmp_path, process=process, started=1)
    assert not is_held(tmp_path)
    assert is_free(tmp_path)


def test_files_that_are_no_locks_do_not_count(tmp_path: Path) -> None:
    for name in ("lock.", "lock.x", "lock.1.tmp", "lock.-1", "lock", "xlock.9", ".lock.9"):
        (tmp_path / name).write_text("{}")
    assert look(tmp_path) is None
    assert is_free(tmp_path)
    assert len(list(tmp_path.iterdir())) == 8


def test_lock_in_a_place_that_is_no_folder_is_work_that_failed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(WorkError, match=f"^{folder}: can't be written"), claim(folder):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_lock_in_a_write_protected_folder_is_work_that_failed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WorkError, match="can't be written"), claim(tmp_path):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_full_disk_is_work_that_failed_and_leaves_no_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    forge(tmp_path, released=True)
    with monkeypatch.context() as patch:
        patch.setattr(lock.os, "pwrite", full)
        with pytest.raises(WorkError, match="No space left"), claim(tmp_path):
            pass
    assert numbers(tmp_path) == [1]
    assert is_free(tmp_path)


def test_disk_that_is_full_at_release_leaves_a_lock_of_a_dead_owner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with claim(tmp_path):
        monkeypatch.setattr(lock.os, "pwrite", full)
    found = look(tmp_path)
    assert found is not None
    assert not found.released
