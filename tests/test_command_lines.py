"""A wrong command line: one line that says what is wrong and what is allowed, exit code 2, for every command alike."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import UserError, WorkError, exit_code

COMMANDS = [
    *("benchmark.carry", "benchmark.methods", "benchmark.report.__main__", "benchmark.report.speed", "benchmark.run"),
    *("benchmark.speed.__main__", "benchmark.sweep", "slurm.local_cluster.__main__", "slurm.task"),
]
Said = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Said:
    """What a command says to a line that it refuses."""

    def said(module: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        assert exit_code(importlib.import_module(module).main) == 2
        out, err = capsys.readouterr()
        [line] = err.splitlines()
        assert (out, list(tmp_path.iterdir())) == ("", [])
        assert line.startswith("error: ")
        return line

    return said


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_refuses_an_unknown_option_in_one_line(module: str, refused: Said) -> None:
    needed = {"benchmark.carry": ["in", "a.tar"], "slurm.local_cluster.__main__": ["stop", "there"]}
    needed |= {"benchmark.run": ["quickstart", "--index", "0"]}
    study = [] if module.startswith(("benchmark.methods", "benchmark.report.speed")) else ["quickstart"]
    assert refused(module, *needed.get(module, study), "--unknown").startswith("error: unknown option '--unknown'")


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("benchmark.sweep", ["quickstart", "--statsu"], "'--statsu', did you mean '--status'? (allowed: --cancel, "),
        (
            "benchmark.sweep",
            ["quickstart", "--stat"],
            "unknown option '--stat', did you mean '--status'?",
        ),  # no short form
        ("benchmark.sweep", ["quickstart", "two"], "unexpected argument 'two'"),
        ("benchmark.sweep", [], "the following arguments are required: study"),
        ("benchmark.sweep", ["quickstart", "--on", "moon"], "argument --on: invalid choice: 'moon'"),
        ("benchmark.sweep", ["quickstart", "--results", ""], "argument --results: must be a path, not ''"),
        ("benchmark.carry", ["back", "quickstart", "--too", "x"], "are required: --to"),
        ("benchmark.carry", ["back", "quickstart", "--to", "x", "--mb", "1"], "'--mb', did you mean '--mib'?"),
        ("benchmark.run", ["quickstart", "--index", "9" * 5000], "argument --index: invalid int value: '999"),
        ("benchmark.speed.__main__", [""], "unknown study ''"),
        ("benchmark.speed.__main__", ["--device", "cuda:٣"], "--device cuda:٣: unknown device"),
        ("benchmark.speed.__main__", ["--methods", "[" * 5000], "not valid YAML"),
        ("benchmark.speed.__main__", ["--methods", "{method: nfe, method: mimo}"], "key 'method' stands twice"),
    ],
)
def test_wrong_command_line(module: str, arguments: list[str], message: str, refused: Said) -> None:
    assert message in refused(module, *arguments)


@pytest.mark.parametrize("content", ['{"settings": {}}', '{"settings": [], "network": 1}', '{"nodes": 2}'])
def test_damaged_settings_of_a_cluster_are_said(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "etc" / "cluster.json"
    known.parent.mkdir()
    known.write_text(content)
    monkeypatch.setattr(sys, "argv", ["command", "status", str(tmp_path)])
    assert exit_code(importlib.import_module("slurm.local_cluster.__main__").main) == 2
    assert capsys.readouterr().err.startswith(f"error: {known}: is damaged; ")


@pytest.mark.parametrize(("error", "begun", "code"), [(UserError, "error: ", 2), (WorkError, "failed: ", 1)])
def test_what_is_said_stays_one_printable_line(
    error: type[Exception], begun: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error("a name\nwith \x1b[31m, \u202e, \udc80 " + "x" * 10_000 + " (allowed: y)")

    assert exit_code(fail) == code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{begun}a name with [31m, , xxx")
    assert line.endswith("xxx (allowed: y)")
    assert line.isprintable()
    assert len(line) < 5000
