"""What processes leave that are killed while they write, and how it is cleared away."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.files import write_atomically
from benchmark.temporary import clear, temporary

KILLED = """
import os, signal, sys
from pathlib import Path
from benchmark.files import write_atomically

def write(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path(sys.argv[1]), write)
"""


def killed_while_writing(path: Path) -> Path:
    """The file that a process left that was killed before it could rename it."""
    before = set(path.parent.glob(".*")) if path.parent.exists() else set()
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -signal.SIGKILL
    [left] = set(path.parent.glob(".*")) - before
    assert not path.exists()
    return left


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "row.json")
    clear(tmp_path, tmp_path / "no such folder")
    assert not left.exists()


def test_folders_are_cleared_away_with_all_in_them(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "trial")
    left.unlink()
    (left / "weights").mkdir(parents=True)
    (left / "weights/main.state").write_bytes(b"")
    clear(tmp_path)
    assert not left.exists()


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    write_atomically(tmp_path / "row.json", lambda file: (file.write(b"whole"), clear(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["row.json"]


def test_a_process_number_used_again_protects_nothing(tmp_path: Path) -> None:
    ours = temporary(tmp_path / "row.json")
    started = ours.name.split("-")[2]
    earlier = ours.with_name(ours.name.replace(f"-{started}", f"-{int(started.removesuffix('.tmp')) - 1}.tmp"))
    earlier.write_bytes(b"")
    clear(tmp_path)
    assert not earlier.exists()


def test_what_another_machine_writes_stays_for_a_day(tmp_path: Path) -> None:
    young, old = (tmp_path / f".{name}.0123abcd-7-9.tmp" for name in ("young", "old"))
    young.write_bytes(b"")
    old.write_bytes(b"")
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize(
    "name", ["row.json", ".row.json.tmp", ".row.json.7.tmp", "row.json.0123abcd-7-9.tmp", "notes.tmp"]
)
def test_what_bears_no_such_name_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / name, (0, 0))
    clear(tmp_path)
    assert (tmp_path / name).exists()
