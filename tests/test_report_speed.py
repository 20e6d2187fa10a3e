"""The benchmark of scoring, statistics and reports: what it measures is the same work, and it says so clearly."""

import json
import sys
from pathlib import Path

import pytest

from benchmark.errors import exit_code
from benchmark.metrics.score import score
from benchmark.report import speed
from benchmark.report.figures import Figure, times_faster
from benchmark.report.simulated import simulated_logits, write_rows
from benchmark.store import Results


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    code = exit_code(speed.main)
    output, errors = capsys.readouterr()
    return code, output, errors


def test_the_shared_pass_gives_the_numbers_of_the_row() -> None:
    logits_MNK, labels_N = simulated_logits(3, 400, 20)
    row = score({"test": logits_MNK}, {"test": labels_N})
    shared = speed.score_shared(logits_MNK, labels_N)
    assert shared.pop("mutual_information") > 0
    for name, value in shared.items():
        of_members = name in ("disagreement", "ratio_error")
        assert value == pytest.approx(row[f"test/{'' if of_members else 'prob_mean/'}{name}"]), name


def test_torch_uncertainty_gives_the_same_numbers() -> None:
    pytest.importorskip("torch_uncertainty")
    logits_MNK, labels_N = simulated_logits(3, 2000, speed.NUM_CLASSES)
    ours, theirs = speed.score_shared(logits_MNK, labels_N), speed._peer(logits_MNK, labels_N, 128)()
    assert len(theirs) == 8
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-4), name  # their AURC is by trapezoids


def test_without_torch_uncertainty_a_line_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_uncertainty", None)
    code, output, _ = printed(capsys, monkeypatch, "--sections", "scoring", "--rounds", "1")
    assert code == 0
    assert "shared pass: " in output
    assert 'torch-uncertainty is not installed: pip install "torch-uncertainty[cpu]"' in output
    assert "times" not in output


def test_figures_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, _ = printed(capsys, monkeypatch, "--sections", "temperature", "bootstrap", "--rounds", "1", "--json")
    assert code == 0
    figures = {(figure["section"], figure["name"]): figure for figure in json.loads(output)}
    assert {section for section, _ in figures} == {"temperature", "bootstrap"}
    for apart in (("temperature", "the two temperatures differ by"), ("bootstrap", "the means differ by")):
        assert figures[apart]["is_reached"] is True
    for ratio in (("temperature", "faster than Nelder-Mead"), ("bootstrap", "faster than the index loop")):
        assert figures[ratio]["low"] <= figures[ratio]["value"] <= figures[ratio]["high"]
        assert figures[ratio]["value"] > 1


def test_a_ratio_is_of_pairs_and_misses_its_target_clearly() -> None:
    found = times_faster("bootstrap", "faster", [1.0, 2.0, 4.0], [5.0, 20.0, 28.0], least=6.0)
    assert (found.value, found.low, found.high, found.is_reached) == (7.0, 5.0, 10.0, True)
    assert found.text == "bootstrap   faster: 7 times [5, 10]; 6 at least: reached"
    assert times_faster("bootstrap", "faster", [1.0], [5.0], least=6.0).text.endswith("6 at least: MISSED")
    assert Figure("report", "nothing asked", 2.0, "s").text == "report      nothing asked: 2 s"


def test_tables_of_many_rows_are_made_cold_and_from_the_cache(tmp_path: Path) -> None:
    write_rows(Results(tmp_path), 100)
    cold, cached = (speed._take_step(step, tmp_path) for step in ("cold", "cached"))
    assert (tmp_path / "simulated" / ".rows.cache").is_file()
    assert min(cold["seconds"], cached["seconds"]) > 0
    assert cold["peak_bytes"] > 2**20


@pytest.mark.parametrize("arguments", [("--rows", "0"), ("--rounds", "two"), ("--sections", "training")])
def test_wrong_options_are_refused(
    arguments: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    assert exit_code(speed.main) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert arguments[1] in line
