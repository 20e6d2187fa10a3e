"""What jobs execute, code and pickles, lies where nobody else can write, and a job looks before it executes any of it."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from benchmark.errors import UserError
from slurm.submit import EXECUTED, make_trusted, trust_check


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a submission, made below a folder of a team: all that is made there is the group's to write."""
    team = tmp_path / "the team's"
    team.mkdir()
    team.chmod(0o2775)
    before = os.umask(0o002)
    try:
        make_trusted(team / "results" / "20260102-000000-aaaaaa")
    finally:
        os.umask(before)
    return team / "results" / "20260102-000000-aaaaaa"


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """A job's script as far as the check, and one line behind it."""
    script = "\n".join([*trust_check(folder), "echo executed"])
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


def test_only_its_owner_enters_what_is_executed(folder: Path) -> None:
    assert {stat.S_IMODE((folder / name).stat().st_mode) & 0o777 for name in EXECUTED} == {0o700}
    assert stat.S_IMODE(folder.stat().st_mode) & 0o777 == 0o755
    assert checked(folder).stdout == "executed\n"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o777])
@pytest.mark.parametrize("part", ["", *EXECUTED])
def test_a_folder_that_others_can_write_executes_nothing(part: str, mode: int, folder: Path) -> None:
    (folder / part).chmod(mode)
    assert_refused(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a folder to another user")
@pytest.mark.parametrize("part", ["", *EXECUTED])
def test_another_users_folder_executes_nothing(part: str, folder: Path) -> None:
    os.chown(folder / part, 12345, 12345)
    assert_refused(folder)


def test_a_folder_that_is_gone_executes_nothing(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    assert_refused(folder)


def assert_refused(folder: Path) -> None:
    done = checked(folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{folder}: is not this user's alone to write; nothing is executed from there" in done.stderr


def test_a_file_system_that_keeps_no_modes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some take a folder's mode from how they were mounted."""
    mkdir = Path.mkdir

    def opened(path: Path, mode: int = 0o777, **settings: bool) -> None:
        mkdir(path, mode, **settings)
        path.chmod(0o777)

    monkeypatch.setattr(Path, "mkdir", opened)
    with pytest.raises(UserError, match=r"can be written by others.*nothing was submitted"):
        make_trusted(tmp_path / "submission")
