"""The report's plots: bins, labels, colours, no traces left."""

import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from simulated_study import simulate, small_study
from test_report_formats import hostile_study

from benchmark.config import Study, expand
from benchmark.metrics.calibration import ece
from benchmark.report.gather import TaskResults, gather
from benchmark.report.palette import METHOD_STYLES, choose_styles
from benchmark.report.plots import make_plots, new_figure
from benchmark.report.plots.label_places import place_labels
from benchmark.report.plots.reliability import bin_examples
from benchmark.store import Results


def task_of(study: Study, results: Results) -> TaskResults:
    return gather(results, study, results.rows(study)).tasks[0]


def test_reliability_bins_agree_with_the_metric() -> None:
    random = np.random.default_rng(3)
    p_NK = random.dirichlet(np.full(10, 0.2), size=500)
    p_NK[0] = np.eye(10)[4]
    labels = np.where(random.random(500) < 0.7, p_NK.argmax(1), 0)
    examples = pd.DataFrame({"label": labels, "x_class": p_NK.argmax(1), "x_confidence": p_NK.max(1)})
    bins = bin_examples(examples, "x")
    gap = np.abs(bins.accuracy_B - bins.confidence_B) @ bins.share_B
    assert gap == pytest.approx(ece(p_NK.max(1), p_NK.argmax(1) == labels), abs=1e-12)
    edges = pd.DataFrame({"label": [1, 1, 1], "x_class": [1, 1, 0], "x_confidence": [1.0, 0.95, 1 / 15]})
    bins = bin_examples(edges, "x")
    assert bins.share_B[-1] == pytest.approx(2 / 3)
    assert bins.accuracy_B[-1] == 1.0
    assert bins.share_B[0] == pytest.approx(1 / 3)


def test_foreign_example_files_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = small_study(["single"], seeds=2)
    results = simulate(tmp_path, study, images=30)
    results.collect(study)
    pd.DataFrame({"other": [1]}).to_parquet(results.examples_path(study.name, expand(study)[0].key))
    task = task_of(study, results)
    assert [len(frame) for frame in task.examples(task.entries[0])] == [30]
    assert "lacks the column label" in capsys.readouterr().err


def test_labels_of_crowded_points_stay_apart() -> None:
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    points = [(5 + 0.05 * i, 5 + 0.1 * (i % 3)) for i in range(9)]
    place_labels(axes, points, [f"deep_ensemble-{i}" for i in range(9)], np.zeros((0, 2)), np.zeros((0, 2, 2)), "black")
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 9
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
    assert all(axes.get_window_extent().contains(*corner) for box in boxes for corner in box.corners())


def test_plots_leave_no_global_state(tmp_path: Path) -> None:
    study = small_study(["single", {"method": "mimo", "num_members": 2}], seeds=3)
    results = simulate(tmp_path, study, images=30, with_examples=False)
    before = dict(matplotlib.rcParams)
    plots = make_plots(task_of(study, results))
    assert [plot.name for plot, _, _ in plots] == [
        *("accuracy_against_training_flops", "accuracy_against_latency", "accuracy_against_costs", "nll_against_costs"),
        *("every_seed", "members_against_ensemble", "diversity_against_accuracy"),
    ]
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_any_label_can_be_drawn(tmp_path: Path) -> None:
    study, results = hostile_study(tmp_path)
    results.collect(study)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = {plot.name for plot, _, _ in make_plots(task_of(study, results))}
    assert {"accuracy_against_training_flops", "every_seed", "members_against_ensemble", "reliability"} <= names


def test_a_method_has_its_colour_whatever_else_a_study_holds() -> None:
    names = ["nfe", "zebra", "single", "yak", "mimo"]
    alone = {name: choose_styles([(name, name)])[name].colour for name in names}
    together = choose_styles((name, name) for name in names)
    assert {name: together[name].colour for name in METHOD_STYLES if name in names} == {
        name: alone[name] for name in METHOD_STYLES if name in names
    }
    assert len({style.colour for style in together.values()}) == len(names)
    assert together == choose_styles((name, name) for name in names)


def test_variants_share_the_colour_and_differ_in_marker() -> None:
    styles = choose_styles([("nfe-2", "nfe"), ("mimo-2", "mimo"), ("nfe-3", "nfe")])
    assert styles["nfe-2"].colour == styles["nfe-3"].colour != styles["mimo-2"].colour
    assert styles["nfe-2"].marker != styles["nfe-3"].marker
    assert styles["nfe-2"].line != styles["nfe-3"].line
