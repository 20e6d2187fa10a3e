"""Published numbers as data, beside runs here: what is compared with what, when it agrees, differs or stays undecided."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy import stats
from simulated_study import done_row, small_study

from benchmark.config import Study, TaskConfig, expand
from benchmark.errors import UserError
from benchmark.report.against_papers import pairs, paper_against_ours
from benchmark.report.gather import TaskResults, gather
from benchmark.report.page import MARKS
from benchmark.report.plots.drawing import look
from benchmark.report.plots.published import paper_and_ours
from benchmark.report.published import COLUMNS, HERE, load_claims, load_published
from benchmark.report.table import Cell
from benchmark.store import Results

TASK = TaskConfig(dataset="cifar100", network={"name": "wide_resnet", "depth": 28, "width": 10})
MIXMO: dict[str, Any] = {"method": "mixmo", "num_members": 2, "mixing": "patch", "batch_repetitions": 4}
ENTRIES: list[str | dict[str, Any]] = ["single", MIXMO, {"method": "deep_ensemble", "num_members": 3}]
FIELDS = dict.fromkeys(COLUMNS, "") | {
    "method": "single", "num_members": "1", "dataset": "cifar100", "network": "wideresnet28x10", "metric": "accuracy",
    "value": "0.800", "comparable": "yes", "source": "A paper", "where": "table 1",
}  # fmt: skip


def publish(root: Path, *lines: dict[str, str]) -> Path:
    """A file of published numbers; a line says how it differs from FIELDS."""
    path = root / "results" / "published" / "results.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join((FIELDS | line)[name] for name in COLUMNS) for line in lines]
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


def simulated(
    root: Path,
    values: dict[str, list[float]],
    metric: str = "accuracy",
    task: TaskConfig = TASK,
    study: Study | None = None,
) -> TaskResults:
    """Runs with given values by label and seed; of the mean of logits 0.01 more, but for a single network."""
    study = study or small_study(ENTRIES, seeds=max(map(len, values.values())), tasks=[task])
    results = Results(root / "results")
    results.write_study(study)
    for run in expand(study):
        for value in values.get(run.label, [])[run.seed : run.seed + 1]:
            pooled = value + (0.01 if run.method != "single" else 0.0)
            row = done_row(run, {f"test/prob_mean/{metric}": value, f"test/logit_mean/{metric}": pooled})
            results.write_row(row)
    return gather(results, study, results.rows(study)).tasks[0]


def verdicts(task: TaskResults) -> list[str]:
    table = paper_against_ours(task)
    assert table is not None
    place = [column.source for column in table.columns].index("verdict")
    return [str(row[place]) for row in table.rows]


CLOSE = [0.798, 0.799, 0.800, 0.801, 0.802]


def test_a_published_number_that_could_be_a_run_of_ours_agrees(tmp_path: Path) -> None:
    publish(tmp_path, {"value": "0.801"})
    assert verdicts(simulated(tmp_path, {"single": CLOSE})) == ["agrees"]


def test_one_that_lies_far_from_all_our_runs_differs(tmp_path: Path) -> None:
    publish(tmp_path, {"value": "0.830"})
    task = simulated(tmp_path, {"single": CLOSE})
    assert verdicts(task) == ["differs"]
    table = paper_against_ours(task)
    assert table is not None
    difference = table.rows[0][4]
    assert isinstance(difference, Cell)
    assert difference.text.startswith("−3.0 ± ")
    assert difference.text.endswith(" points")


def test_the_interval_is_where_one_further_run_of_ours_would_lie_and_the_rounding(tmp_path: Path) -> None:
    publish(tmp_path, {"value": "0.80"}, {"value": "0.800", "runs": "4"}, {"value": "0.8000", "std": "0.004"})
    one, four, with_std = pairs(simulated(tmp_path, {"single": CLOSE}))
    deviation, quantile = np.std(CLOSE, ddof=1), stats.t.ppf(0.975, 4)
    assert one.half_width == pytest.approx(quantile * deviation * np.sqrt(1 / 5 + 1) + 0.005)
    assert four.half_width == pytest.approx(quantile * deviation * np.sqrt(1 / 5 + 1 / 4) + 0.0005)
    both = (quantile * deviation) ** 2 / 5 + (stats.norm.ppf(0.975) * 0.004) ** 2
    assert with_std.half_width == pytest.approx(np.sqrt(both) + 0.00005)


def test_a_rerun_of_ours_is_called_different_no_more_often_than_stated(tmp_path: Path) -> None:
    publish(tmp_path, {"value": "0.80000000"})
    task = simulated(tmp_path, {"single": [0.8] * 4})
    random, outside = np.random.default_rng(0), 0
    entry = task.entries[0]
    for _ in range(400):
        published, *ours = random.normal(0.8, 0.003, 5)
        entry.runs["test/prob_mean/accuracy"] = ours
        publish(tmp_path, {"value": f"{published:.8f}"})
        [pair] = pairs(task)
        outside += pair.p_value is not None and pair.p_value < 0.05
    assert 0.025 < outside / 400 < 0.08


def test_one_run_or_runs_that_scatter_widely_decide_nothing(tmp_path: Path) -> None:
    publish(tmp_path, {})
    assert verdicts(simulated(tmp_path, {"single": [0.9]})) == ["undecided: one run here"]
    assert verdicts(simulated(tmp_path, {"single": [0.78, 0.82]})) == ["undecided: too few runs here"]


def test_many_lines_are_corrected_for_their_number(tmp_path: Path) -> None:
    values = {"single": [0.798, 0.800, 0.802]}
    publish(tmp_path, {"value": "0.812"})
    assert verdicts(simulated(tmp_path, values)) == ["differs"]
    publish(tmp_path, {"value": "0.812"}, *[{"value": "0.800"}] * 9)
    assert verdicts(simulated(tmp_path, values))[0] == "undecided: differs before Holm's correction"


def test_every_verdict_has_a_mark_on_the_page() -> None:
    assert {"agrees", "differs", "undecided", "reproduced", "contradicted", "not run"} <= MARKS.keys()


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "cifar10"},
        {"network": "wideresnet28x1"},
        {"num_members": "4"},
        {"num_members": ""},
        {"method": "mimo"},
        {"options": "mixing=linear"},
        {"options": "mixing=patch batch_repetitions=2"},
        {"comparable": "no"},
        {"metric": "nll"},
    ],
)
def test_only_the_same_data_set_network_members_and_stated_options_are_compared(
    tmp_path: Path, other: dict[str, str]
) -> None:
    same = {"method": "mixmo", "num_members": "2", "options": "mixing=patch batch_repetitions=4"}
    task = simulated(tmp_path, {"mixmo-2": CLOSE})
    publish(tmp_path, same)
    assert len(pairs(task)) == 1
    publish(tmp_path, same | other)
    assert pairs(task) == []
    assert paper_against_ours(task) is None
    with look():
        assert paper_and_ours(task) is None


def test_a_part_of_a_data_set_is_another_data_set(tmp_path: Path) -> None:
    publish(tmp_path, {})
    part = TASK.model_copy(update={"train_images": 500})
    assert pairs(simulated(tmp_path, {"single": CLOSE}, task=part)) == []


def test_ours_is_pooled_as_the_publication_says(tmp_path: Path) -> None:
    line = {"method": "mixmo", "num_members": "2"}
    publish(tmp_path, line, line | {"pooling": "logit_mean"})
    headline, stated = pairs(simulated(tmp_path, {"mixmo-2": CLOSE}))
    assert headline.source == "test/prob_mean/accuracy"
    assert stated.source == "test/logit_mean/accuracy"
    assert stated.ours.mean == pytest.approx(headline.ours.mean + 0.01)


def test_a_line_shows_the_digits_published_the_epochs_of_both_and_the_source(tmp_path: Path) -> None:
    publish(tmp_path, {"value": "0.8000", "std": "0.003", "epochs": "200", "note": "by a repository"})
    table = paper_against_ours(simulated(tmp_path, {"single": CLOSE}))
    assert table is not None
    method, metric, published, ours, _, _, epochs, source = table.rows[0]
    assert (method, metric, published) == ("single", "accuracy", "80.00 (std 0.30) %")
    assert isinstance(ours, Cell)
    assert ours.text == "80.0 ± 0.2 % (5/5)"
    assert (epochs, source) == ("200, 10", "A paper, table 1, by a repository")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "high"}, "line 2: value is a number, not 'high'"),
        ({"value": ""}, "line 2: value: input should be a valid number"),
        ({"value": "1e400"}, "line 2: value is a number of usual size, not '1e400'"),
        ({"options": "patch"}, "line 2: options: 'patch' is no name=value"),
        ({"value": "nan"}, "line 2: value: input should be a finite number"),
        ({"num_members": "2.5"}, "line 2: num_members is a number, not '2.5'"),
        ({"num_members": "0"}, "line 2: num_members: input should be greater than or equal to 1"),
        ({"metric": "acuracy"}, "line 2: metric: unknown metric 'acuracy', did you mean 'accuracy'?"),
        ({"dataset": "cifar11"}, "line 2: dataset: unknown data set 'cifar11'"),
        ({"pooling": "mean"}, "line 2: pooling: unknown pooling 'mean'"),
        ({"comparable": "maybe"}, "line 2: comparable: input should be 'yes' or 'no'"),
    ],
)
def test_a_damaged_line_is_named_in_one_line(tmp_path: Path, change: dict[str, str], said: str) -> None:
    path = publish(tmp_path, change)
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        load_published(Results(tmp_path / "results"))
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_file_cut_off_within_a_line_is_refused(tmp_path: Path) -> None:
    path = publish(tmp_path, {}, {})
    text = path.read_text()
    for end in (0, 5, text.index("\n") - 3, text.index("0.800"), len(text) // 2 + 60):
        path.write_text(text[:end])
        with pytest.raises(UserError, match=re.escape(str(path))):
            load_published(Results(tmp_path / "results"))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="can't be read"):
        load_published(Results(tmp_path / "results"))


def test_the_results_folder_s_own_numbers_come_before_those_of_the_checkout(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    assert load_published(results) == load_published(Results(HERE.parent))
    publish(tmp_path, {}, {})
    assert len(load_published(results)) == 2
    assert len(load_claims(results)) >= 30  # file by file: it has no claims of its own


def test_without_published_files_claims_are_refused_in_one_line_and_tables_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.report.published.HERE", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no published claims: neither .* nor .*nowhere holds claims.yaml"):
        load_claims(Results(tmp_path / "results"))
    assert paper_against_ours(simulated(tmp_path, {"single": CLOSE})) is None


def test_the_published_numbers_are_in_the_row_s_units_and_each_stands_once() -> None:
    results = load_published(Results(HERE.parent))
    for result in results:
        share = result.metric.rpartition("/")[2] in ("accuracy", "ece")
        assert 0 < result.value < (1 if share else 3), result
        assert result.std is None or result.std < 0.01
        assert result.note or result.comparable == "yes", result
        assert result.pooling == "" or result.num_members != 1
    assert max(Counter(results).values()) == 1
    known = {(r.source, r.method, r.num_members, r.dataset, r.network, r.metric): r.value for r in results}
    wrn = "wideresnet28x10"
    assert known["google/uncertainty-baselines", "batch_ensemble", 4, "cifar10", wrn, "shifted/accuracy"] == 0.775
    assert known["google/uncertainty-baselines", "deep_ensemble", 4, "cifar100", wrn, "nll"] == 0.666
    assert known["tjwhitaker/prune-and-tune-ensembles", "prune_and_tune", 6, "cifar100", wrn, "accuracy"] == 0.8244
    assert known["alexrame/mixmo-pytorch", "mixmo", 2, "tinyimagenet", "preactresnet3x2", "accuracy"] == 0.7023
    assert known["cs-giung/giung2", "mimo", 3, "cifar100", wrn, "ece"] == 0.0193


def markers(axes: Axes) -> list[tuple[str, float]]:
    """Filled or hollow, and where along x."""
    lines = [line for line in axes.lines if line.get_linestyle() == "None"]
    return [
        ("hollow" if str(line.get_markerfacecolor()) == "none" else "filled", round(float(x), 6))
        for line in lines
        for x in np.atleast_1d(line.get_xdata())
    ]


def test_the_plot_has_our_means_filled_and_published_numbers_hollow(tmp_path: Path) -> None:
    publish(tmp_path, {"value": "0.805"}, {"value": "0.790"}, {"metric": "nll", "value": "0.7"}, {"comparable": "no"})
    task = simulated(tmp_path, {"single": CLOSE})
    with look():
        plot = paper_and_ours(task)
    assert plot is not None
    [axes] = plot.figure.axes
    assert sorted(markers(axes)) == [("filled", 80.0), ("hollow", 79.0), ("hollow", 80.5)]
    assert axes.get_xlabel() == "accuracy (%)"
