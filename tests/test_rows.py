"""Rows and their checksums: what was edited by hand is told from what a run wrote, and never lost."""

import json
from pathlib import Path

import pytest
from simulated_study import done_row, small_study

from benchmark.config import Study, expand
from benchmark.errors import UserError
from benchmark.rows import checksum, parse_row, row_line, written_checksum
from benchmark.store import Results


@pytest.fixture
def study() -> Study:
    return small_study(["single"], seeds=3)


@pytest.fixture
def results(study: Study, tmp_path: Path) -> Results:
    results = Results(tmp_path)
    results.write_study(study)
    for run in expand(study):
        results.write_row(done_row(run, {"test/prob_mean/accuracy": 0.8 + run.seed / 100}))
    return results


def improve(path: Path) -> None:
    """What a hand in a hurry does: a better number, all else as it was."""
    path.write_text(path.read_text().replace('"test/prob_mean/accuracy":0.8', '"test/prob_mean/accuracy":0.9'))


def test_a_line_bears_the_checksum_of_what_it_says(study: Study) -> None:
    row = done_row(expand(study)[0], {"test/prob_mean/accuracy": 0.8})
    line = row_line(row)
    assert written_checksum(line) == checksum(row)
    assert parse_row(line) == row | {"checksum": checksum(row)}
    assert line.count(b"\n") == 1


def test_other_blanks_and_line_ends_change_nothing_and_any_value_does(study: Study) -> None:
    row = done_row(expand(study)[0], {"test/prob_mean/accuracy": 0.8})
    line = row_line(row)
    spaced = json.dumps(json.loads(line), indent=2).encode()
    assert written_checksum(spaced) == written_checksum(line.replace(b"\n", b"\r\n")) == checksum(row)
    for changed in (line.replace(b"0.8", b"0.9", 1), line.replace(b'"seed":0', b'"seed":1'), line[:-20], b"", b"[]"):
        assert changed != line
        assert written_checksum(changed) is None


def test_a_row_edited_in_its_folder_is_refused_and_stays(study: Study, results: Results) -> None:
    path = results.run_dir(expand(study)[1].key) / "row.json"
    improve(path)
    edited = path.read_bytes()
    with pytest.raises(UserError, match=r"not as its run wrote it.*python -m benchmark\.sweep simulated"):
        results.rows(study)
    with pytest.raises(UserError, match="not as its run wrote it"):
        results.collect(study)
    assert path.read_bytes() == edited
    assert not (results.study_dir(study.name) / "rows.jsonl").exists()


def test_a_row_edited_among_the_collected_is_refused_and_stays(study: Study, results: Results) -> None:
    results.collect(study)
    path = results.study_dir(study.name) / "rows.jsonl"
    for run in expand(study):
        (results.run_dir(run.key) / "row.json").unlink()
    improve(path)
    edited = path.read_bytes()
    with pytest.raises(UserError, match=r"rows\.jsonl: the row of .* \(and 2 more\)"):
        results.rows(study)
    assert path.read_bytes() == edited


def test_a_sweep_takes_it_for_what_it_says_and_warns(
    study: Study, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    improve(results.run_dir(expand(study)[0].key) / "row.json")
    rows = results.rows(study, trusting=True)
    assert len(rows) == 3
    assert "until then it counts as what it says" in capsys.readouterr().err


def test_rows_that_another_process_collects_meanwhile_are_neither_lost_nor_taken_for_others(
    study: Study, results: Results
) -> None:
    early, middle, late = sorted(run.key for run in expand(study))
    rows = {key: results.row(key) for key in (early, middle, late)}
    path_of = {key: results.run_dir(key) / "row.json" for key in rows}
    path_of[early].unlink()
    path_of[middle].unlink()
    results.collect(study)
    path_of[late].unlink()  # it is known from the collected rows alone, of which it is the first

    ours = results.rows(study)
    results.write_row(dict(rows[middle] or {}))
    results.collect(study)
    assert ours[late] == rows[late]

    ours = results.rows(study)
    results.write_row(dict(rows[early] or {}))
    results.collect(study)
    assert {key: ours[key] for key in ours} == {key: rows[key] for key in (middle, late)}
    ours.collect()
    for path in path_of.values():
        path.unlink(missing_ok=True)
    assert dict(results.rows(study)) == rows
    assert not list(results.study_dir(study.name).glob("*.damaged"))


def test_a_cache_never_hides_an_edit(study: Study, results: Results) -> None:
    results.collect(study)
    assert len(results.rows(study)) == 3  # by the cache
    improve(results.study_dir(study.name) / "rows.jsonl")
    with pytest.raises(UserError, match="not as its run wrote it"):
        results.rows(study)


def test_a_damaged_cache_is_made_anew(study: Study, results: Results) -> None:
    """Wherever the damage is: in a number, in the name of a column, in what says whose rows they are."""
    before = results.collect(study).numbers([run.key for run in expand(study)])
    cache = results.study_dir(study.name) / ".rows.cache"
    content = cache.read_bytes()
    for place in range(0, len(content), len(content) // 40):
        cache.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        after = results.rows(study).numbers([run.key for run in expand(study)])
        assert after.equals(before)


@pytest.mark.parametrize(("part", "value"), [("costs", -5), ("measured", -1.0), ("metrics", 1e300), ("costs", 10**400)])
def test_a_row_with_an_impossible_number_is_none(study: Study, part: str, value: float) -> None:
    row = done_row(expand(study)[0], {"test/prob_mean/accuracy": 0.8})
    assert parse_row(row_line(row)) is not None
    name = next(iter(row[part]))
    assert parse_row(row_line(row | {part: row[part] | {name: value}})) is None


def test_a_study_in_the_folder_of_another_is_refused(results: Results) -> None:
    path = results.study_dir("simulated") / "study.yaml"
    path.write_text(path.read_text().replace("name: simulated", "name: other"))
    with pytest.raises(UserError, match="is 'other', but this is the folder of 'simulated'"):
        results.read_study("simulated")
