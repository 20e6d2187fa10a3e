"""Files beside a row are what the row says of them, or are set aside: no plot and no interval is drawn from others."""

from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_study import simulate, small_study

from benchmark.config import Study, expand
from benchmark.data.sources import Location
from benchmark.machine import Machine
from benchmark.progress import Reporter
from benchmark.report.gather import TaskResults, gather
from benchmark.rows import CHECKED_FILES, file_checksum
from benchmark.run import execute, resolved_study
from benchmark.store import Results

HISTORY = b'{"stage": "main", "epoch": 1, "loss": 1.5, "accuracy": 0.5, "monitored": "train", "train_seconds": 2.0}\n'


@pytest.fixture
def study() -> Study:
    return small_study(["single"], seeds=2)


@pytest.fixture
def results(study: Study, tmp_path: Path) -> Results:
    """Rows that bear the checksums of their example files and histories."""
    results = simulate(tmp_path, study)
    for run in expand(study):
        row, folder = results.row(run.key), results.run_dir(run.key)
        assert row is not None
        (folder / "history.jsonl").write_bytes(HISTORY.replace(b"1.5", b"1.%d" % run.seed))
        results.write_row(
            row | {"files": {name: file_checksum((folder / name).read_bytes()) for name in CHECKED_FILES}}
        )
    results.collect(study)
    return results


def task_of(study: Study, results: Results) -> TaskResults:
    return gather(results, study, results.rows(study)).tasks[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_last_digit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def take_the_other_runs(path: Path) -> None:
    [other] = [other for other in path.parent.iterdir() if other != path]
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("part", ["examples", "histories"])
@pytest.mark.parametrize("damage", [cut, flip_last_digit, put_folder, take_the_other_runs])
def test_a_damaged_file_is_set_aside(
    part: str, damage: Callable[[Path], None], study: Study, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    key = expand(study)[0].key
    path = (results.examples_path if part == "examples" else results.history_path)(study.name, key)
    task = task_of(study, results)
    read = task.examples if part == "examples" else task.histories
    assert len(read(task.entries[0])) == 2
    damage(path)
    assert len(read(task.entries[0])) == 1
    assert f"set aside as {path.name}.damaged" in capsys.readouterr().err
    assert path.with_name(f"{path.name}.damaged").exists()


def test_a_damaged_file_is_not_collected(study: Study, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    key = expand(study)[0].key
    results.examples_path(study.name, key).unlink()
    cut(results.run_dir(key) / "examples.parquet")
    results.collect(study)
    assert not results.examples_path(study.name, key).exists()
    assert "examples.parquet: is not as its run wrote it; set aside" in capsys.readouterr().err


def test_a_lost_file_is_told(study: Study, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    key = expand(study)[0].key
    results.examples_path(study.name, key).unlink()
    task = task_of(study, results)
    assert len(task.examples(task.entries[0])) == 1
    assert f"lacks the example files of 1 runs, such as {key}; compared without them" in capsys.readouterr().err


def test_checksums_are_those_of_what_a_run_left(tiny_study: Callable[..., Path], tmp_path: Path) -> None:
    """Also where it went on after its last stage, and an earlier process's history is gone."""
    [run] = expand(resolved_study(str(tiny_study(recipe={"epochs": 1}))))
    results, machine = Results(tmp_path / "results"), Machine(Location(), "cpu")
    folder = results.run_dir(run.key)
    reporter = Reporter(folder, lambda: False)
    first = execute(run, results, machine, reporter)
    assert first["files"].keys() == {*CHECKED_FILES}
    (folder / "row.json").unlink()
    (folder / "history.jsonl").write_text("damaged")
    second = execute(run, results, machine, reporter)
    assert second["files"] == first["files"]
    for name, checksum in second["files"].items():
        assert file_checksum((folder / name).read_bytes()) == checksum
