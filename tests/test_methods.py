"""`python -m benchmark.methods`: what it says of options against what a study file may hold."""

import dataclasses
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from benchmark import methods
from benchmark.errors import exit_code
from benchmark.method import Method
from benchmark.methods import Option, options_of
from methods import METHODS
from methods.single import Single
from methods.variants import Differs, Source, Variant, differences, sources

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Optional(Single):
    """One option of each kind."""

    needed: int
    share: Annotated[float, Field(gt=0, lt=1, description="of the whole")] = 0.25
    part: Annotated[int, Field(ge=2)] | Literal["all"] | None = None
    flag: Annotated[bool, Source("section 2")] = True
    variant: Variant = "paper"
    mode: Annotated[Literal["a", "b"] | None, Differs("a", "b", "section 3; x/y:z.py:1")] = None


def listed(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "benchmark.methods", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.returncode, done.stdout, done.stderr


def test_an_option_says_default_allowed_values_meaning_and_source() -> None:
    described = {option.name: option for option in options_of(Optional)}
    assert described["needed"].default == "none, has to be given"
    assert described["share"] == Option("share", "0.25", "number > 0, < 1", "of the whole", "")
    assert described["part"].allowed == "integer ≥ 2 or all or null"
    assert described["flag"] == Option("flag", "true", "true or false", "", "section 2")
    assert described["variant"].allowed == "paper or released"
    assert described["mode"].default == "a (paper), b (released)"
    assert described["mode"].allowed == "a or b", "nothing is what the variant chooses, so no value"
    assert described["mode"].source == "section 3; x/y:z.py:1"


@pytest.mark.parametrize("name", METHODS)
def test_every_option_of_every_method_is_explained(name: str) -> None:
    method: type[Method] = METHODS[name]
    described = options_of(method)
    assert [option.name for option in described] == [field.name for field in dataclasses.fields(method)]  # type: ignore[arg-type]
    for option in described:
        assert option.meaning, option.name
        assert "typing" not in option.allowed, option.name
        assert "<class" not in option.allowed, option.name
    assert {option.name for option in described if option.source} == set(sources(method)) >= set(differences(method))


def test_all_methods_are_listed_a_fact_a_line_where_piped() -> None:
    code, out, err = listed()
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines() if line[:1].strip()] == list(METHODS)
    assert "\x1b" not in out
    for method in METHODS.values():
        for mark in differences(method).values():
            assert f"    source: {mark.source}\n" in out


def test_one_method_alone() -> None:
    code, out, _ = listed("mimo")
    assert code == 0
    assert out.startswith("mimo: ")
    assert "\n  batch_repetitions: 4\n    allowed: integer ≥ 1, ≤ 100\n" in out
    assert "\nnfe: " not in out


def test_a_terminal_gets_a_table_with_nothing_cut() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "benchmark.methods", "nfe"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=theirs, cwd=ROOT, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "─" in text
    assert "…" not in text
    for option in options_of(METHODS["nfe"]):
        assert option.name in text


def test_an_unknown_method_is_one_line_with_the_nearest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["methods", "mixmoo"])
    assert exit_code(methods.main) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: unknown method 'mixmoo', did you mean 'mixmo'? (allowed: ")
    assert err.count("\n") == 1


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["methods", "--help"])
    with pytest.raises(SystemExit, match="0"):
        methods.main()
    assert "python -m benchmark.methods nfe" in capsys.readouterr().out
