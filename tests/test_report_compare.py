"""Entries compared: over seeds and test images where example files allow it, over seeds alone elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_study import simulate, small_study

from benchmark.config import Study
from benchmark.report.compare import compare_entries, resampled
from benchmark.report.gather import Entry, TaskResults, gather
from benchmark.statistics import Comparison, compare_ece, compare_examples, compare_runs
from benchmark.store import Results

IMAGES = 120


@pytest.fixture
def study() -> Study:
    return small_study(["single", {"method": "nfe", "num_members": 3}], seeds=3)


@pytest.fixture
def results(study: Study, tmp_path: Path) -> Results:
    """Every run has an example file, of the same images as all others."""
    results = simulate(tmp_path, study, images=IMAGES)
    results.collect(study)
    return results


def task_of(study: Study, results: Results) -> tuple[TaskResults, Entry, Entry]:
    task = gather(results, study, results.rows(study)).tasks[0]
    return task, task.entries[0], task.entries[1]


def compared(study: Study, results: Results, source: str) -> Comparison:
    comparison = compare_entries(*task_of(study, results), source)
    assert comparison is not None
    return comparison


def columns(study: Study, results: Results, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of the example files, one row per seed, of either entry."""
    task, *entries = task_of(study, results)
    first_SN, second_SN = (np.stack([frame[name] for frame in task.examples(entry)]) for entry in entries)
    return first_SN, second_SN


@pytest.mark.parametrize("metric", ["nll", "brier", "nll_calibrated"])
@pytest.mark.parametrize("pooling", ["prob_mean", "logit_mean"])
def test_losses_are_compared_over_seeds_and_images(study: Study, results: Results, metric: str, pooling: str) -> None:
    expected = compare_examples(*columns(study, results, f"{pooling}_{metric}"))
    assert compared(study, results, f"test/{pooling}/{metric}") == expected
    assert expected.scatter is not None
    assert np.isfinite(expected.scatter.images_freedom)  # the images have a part in it


def test_accuracy_and_ece_come_from_classes_and_confidences(study: Study, results: Results) -> None:
    labels, classes = columns(study, results, "label"), columns(study, results, "prob_mean_class")
    confidences = columns(study, results, "prob_mean_confidence")
    right = [of_class == label for of_class, label in zip(classes, labels, strict=True)]
    assert compared(study, results, "test/prob_mean/accuracy") == compare_examples(*right)
    expected = compare_ece(*zip(confidences, right, strict=True))
    assert compared(study, results, "test/prob_mean/ece").difference == pytest.approx(expected.difference, abs=1e-7)


def test_all_else_is_compared_over_seeds(study: Study, results: Results) -> None:
    _, single, nfe = task_of(study, results)
    for source in ("measured/train_seconds", "test/disagreement", "test/prob_mean/aurc", "validation/prob_mean/nll"):
        assert compared(study, results, source) == compare_runs(single.runs[source], nfe.runs[source])


def test_without_every_file_seeds_alone_are_compared(study: Study, results: Results) -> None:
    _, single, nfe = task_of(study, results)
    source = "test/prob_mean/nll"
    over_seeds = compare_runs(single.runs[source], nfe.runs[source])
    assert compared(study, results, source) != over_seeds
    results.examples_path(study.name, single.runs["key"].iloc[1]).unlink()
    assert compared(study, results, source) == over_seeds


def test_files_of_other_images_are_not_compared_image_by_image(study: Study, results: Results) -> None:
    _, single, nfe = task_of(study, results)
    for key in nfe.runs["key"]:
        frame = results.examples(study.name, key)
        assert frame is not None
        frame.iloc[::-1].to_parquet(results.examples_path(study.name, key))
    source = "test/prob_mean/nll"
    assert compared(study, results, source) == compare_runs(single.runs[source], nfe.runs[source])


def test_files_without_losses_still_tell_accuracy(study: Study, results: Results) -> None:
    """As files did before losses stood in them."""
    task, single, _ = task_of(study, results)
    for key in single.runs["key"]:
        frame = results.examples(study.name, key)
        assert frame is not None
        kept = frame[["label", "prob_mean_class", "prob_mean_confidence"]]
        kept.to_parquet(results.examples_path(study.name, key))
    assert resampled(task, single, "prob_mean").keys() == {"accuracy", "ece"}


def test_a_file_of_another_run_is_left_out(study: Study, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    """Swapped between methods, they would turn a verdict round."""
    _, single, nfe = task_of(study, results)
    for one, other in zip(single.runs["key"], nfe.runs["key"], strict=True):
        first, second = (results.examples_path(study.name, key) for key in (one, other))
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    source = "test/prob_mean/accuracy"
    assert compared(study, results, source) == compare_runs(single.runs[source], nfe.runs[source])
    assert "is not this run's: its accuracy is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("prob_mean_confidence", 5.0, "is not between 0 and 1"),
        ("prob_mean_confidence", np.nan, "holds what is no number"),
        ("prob_mean_nll", "text", "holds what is no number"),
        ("prob_mean_class", np.nan, "holds what is no number"),
        ("prob_mean_nll", 0.25, "its nll is 0.25"),
    ],
)
def test_a_damaged_column_leaves_the_file_out(
    column: str, value: Any, said: str, study: Study, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    task, single, _ = task_of(study, results)
    key = single.runs["key"].iloc[0]
    frame = results.examples(study.name, key)
    assert frame is not None
    frame.assign(**{column: value}).to_parquet(results.examples_path(study.name, key))
    assert len(task.examples(single)) == 2
    assert said in capsys.readouterr().err
    assert compared(study, results, "test/prob_mean/accuracy") is not None


def test_what_no_run_has_is_not_compared(study: Study, results: Results) -> None:
    assert compare_entries(*task_of(study, results), "test/prob_mean/nosuch") is None
