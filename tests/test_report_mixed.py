"""Runs that don't compare are refused, unless a flag allows them; then every table says so."""

import subprocess
import sys
from pathlib import Path

import pytest
from simulated_study import done_row, small_study

from benchmark.config import Study, expand
from benchmark.errors import UserError
from benchmark.report.write import write_report
from benchmark.store import Results


@pytest.fixture
def study() -> Study:
    return small_study(["single", {"method": "nfe", "num_members": 3}], seeds=2)


def write_rows(study: Study, root: Path, **of_the_last: str) -> Results:
    """All runs alike, but for what the last one's environment says."""
    results = Results(root)
    results.write_study(study)
    for run in expand(study):
        row = done_row(run, {"test/prob_mean/accuracy": 0.8 + run.seed / 100})
        row["environment"] |= of_the_last if run == expand(study)[-1] else {}
        results.write_row(row)
    return results


def report(results: Results, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark.report", "simulated", "--results", str(results.root), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"commit": "fedcba987654"}, "2 code versions: 0123456789ab (3 runs), fedcba987654 (1 run)"),
        ({"commit": "0123456789ab-dirty", "diff": "9f86d081884c"}, "0123456789ab dirty 9f86d08 (1 run)"),
        ({"device": "Other GPU"}, "2 devices: Simulated CPU (3 runs), Other GPU (1 run)"),
    ],
)
def test_mixed_runs_are_refused_in_one_line(
    study: Study, tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    results = write_rows(study, tmp_path, **environment)
    for options in ([], ["--metric", "accuracy"], ["--claim", "nfe-3 > single : accuracy"]):
        done = report(results, *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "--allow-mixed" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (results.study_dir(study.name) / "report").exists()


def test_where_they_are_allowed_every_table_says_so(study: Study, tmp_path: Path) -> None:
    results = write_rows(study, tmp_path, commit="fedcba987654")
    with pytest.raises(UserError, match="2 code versions"):
        write_report(results, study)
    folder = write_report(results, study, allow_mixed=True)
    said = "The finished runs are not of a kind: 2 code versions"
    tables = [path for path in (folder / "tables").iterdir() if path.suffix != ".csv"]
    assert tables
    assert all(said in path.read_text() for path in tables)
    assert said in (folder / "report.html").read_text()
    assert "**Warning:** The finished runs are not of a kind" in (folder / "report.md").read_text()
    assert said in report(results, "--metric", "accuracy", "--allow-mixed").stdout


def test_failed_runs_of_another_version_do_not_matter(study: Study, tmp_path: Path) -> None:
    results = write_rows(study, tmp_path, commit="fedcba987654")
    last = expand(study)[-1]
    row = done_row(last, {}) | {"status": "failed", "reason": "loss is nan", "metrics": {}, "costs": {}, "measured": {}}
    results.write_row(row)
    assert write_report(results, study).is_dir()


def test_times_of_runs_that_shared_a_gpu_are_said_to_be_that(study: Study, tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write_study(study)
    for run in expand(study):
        row = done_row(run, {"test/prob_mean/accuracy": 0.8})
        row["environment"] |= {"device": "NVIDIA H200, shared by 4 runs"}
        results.write_row(row)
    folder = write_report(results, study)
    for table in (folder / "tables").glob("*.md"):
        if table.stem != "provenance":
            assert "Times and energy are those of runs that shared a device (NVIDIA H200, shared by 4 runs)." in (
                table.read_text()
            ), table
