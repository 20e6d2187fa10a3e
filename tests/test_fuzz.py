"""The fuzzing command itself, on a few examples: it runs, it counts, and it notices what it is there to notice."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.judge import Finding, accepted_or_refused, answer
from fuzz.near_valid import NearValid

from benchmark.errors import UserError, WorkError

ROOT = Path(__file__).parents[1]


def test_a_few_examples_find_nothing() -> None:
    kinds = ("studies", "commands")
    command = [sys.executable, "-m", "tests.fuzz", "--examples", "60", "--seed", "1", "--only", *kinds]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [*kinds]


def test_what_must_fail_and_is_taken_is_found(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    assert accepted_or_refused(path, NearValid("value of epochs", b"a: 1", must_fail=False), lambda: 0) == "accepted"
    assert path.read_bytes() == b"a: 1"
    with pytest.raises(Finding, match="silently taken: value"):
        accepted_or_refused(path, NearValid("value of epochs", b"a: 1", must_fail=True), lambda: 0)


def raise_(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (ValueError("no clear line"), "traceback: ValueError"),
        (UserError(""), "no clear line at the end"),
        (SystemExit(2), "left by SystemExit"),
    ],
)
def test_what_is_no_clear_end_is_found(error: BaseException, finding: str) -> None:
    with pytest.raises(Finding, match=finding):
        answer(lambda: raise_(error))


def test_warnings_may_stand_before_the_line_and_nothing_else() -> None:
    def fail(said: str) -> int:
        print(said, file=sys.stderr)
        raise UserError("this is wrong")

    given = answer(lambda: fail("warning: a file was set aside"))
    assert (given.code, given.warnings) == (2, ["warning: a file was set aside"])
    with pytest.raises(Finding, match="more than one line"):
        answer(lambda: fail("usage: command"))


def test_what_failed_in_one_line_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    given = answer(lambda: raise_(WorkError("the disk is full")))
    assert (given.code, given.out, given.err) == (1, "", "failed: the disk is full\n")
