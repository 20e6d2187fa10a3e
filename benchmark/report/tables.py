"""The report's tables. A table is one function (a task's results in, a table or None out) and one line in TABLES."""

from collections.abc import Callable
from functools import partial

from benchmark.metrics.pooling import POOLINGS
from benchmark.report.against_papers import paper_against_ours
from benchmark.report.comparability import comparability
from benchmark.report.comparisons import comparisons
from benchmark.report.equivalents import equivalents_table
from benchmark.report.fronts import fronts
from benchmark.report.gather import RELATIVE, TaskResults
from benchmark.report.quantities import quantity_of
from benchmark.report.sources import COUNTED, DIVERSITY, MEASURED, OUT_OF_DISTRIBUTION
from benchmark.report.table import Cell, Column, Table, entries_table, lines_of

CALIBRATION = ("nll", "brier", "ece", "ece_adaptive", "ece_classwise", "mce")
SELECTION = ("aurc", "augrc", "accuracy_at_80")
SHIFTED = ("accuracy", "nll", "brier", "ece", "aurc", "nll_calibrated", "brier_calibrated", "ece_calibrated")


def accuracy(task: TaskResults) -> Table | None:
    columns = (("test", "accuracy"), ("test", "top5"), ("validation", "accuracy"), ("test", "best_epoch_gain"))
    titles = {"accuracy": "", "top5": "top-5", "best_epoch_gain": "gain of the best epoch"}
    sources = {
        f"{split}/{pooling}/{metric}": f"{split} {titles[metric]}".strip() + f", {pooling}"
        for split, metric in columns
        for pooling in POOLINGS
    }
    text = "On test and validation images."
    return entries_table(lines_of(task), "accuracy", "Accuracy", text, sources, ["test/prob_mean/accuracy"])


def calibration(task: TaskResults, pooling: str) -> Table | None:
    text = f"Of test images as the networks predict them, members pooled by {pooling}."
    sources = [f"test/{pooling}/{metric}" for metric in CALIBRATION]
    return entries_table(lines_of(task), f"calibration_{pooling}", f"Calibration, {pooling}", text, sources)


def calibration_scaled(task: TaskResults, pooling: str) -> Table | None:
    text = f"Of test images, after the pooled prediction ({pooling}) was scaled by a temperature fitted on validation images."
    sources = [
        *(f"test/{pooling}/{metric}_calibrated" for metric in CALIBRATION),
        f"validation/{pooling}/temperature",
    ]
    title = f"Calibration after temperature scaling, {pooling}"
    return entries_table(lines_of(task), f"calibration_scaled_{pooling}", title, text, sources)


def calibration_cross_validated(task: TaskResults, pooling: str) -> Table | None:
    text = (
        f"The same without validation images ({pooling}): the temperature is fitted on one random half of the test images "
        "and the other half scored, both ways, mean over five halvings."
    )
    sources = [
        *(f"test/{pooling}/{metric}_cross_validated" for metric in CALIBRATION),
        f"test/{pooling}/temperature_cross_validated",
    ]
    title = f"Calibration under test-time cross-validation, {pooling}"
    return entries_table(lines_of(task), f"calibration_cross_validated_{pooling}", title, text, sources)


def selection(task: TaskResults, pooling: str) -> Table | None:
    text = f"How well confidence ({pooling}) tells right predictions from wrong ones, before and after scaling."
    variants = ("", "_calibrated", "_cross_validated")
    sources = [f"test/{pooling}/{metric}{variant}" for metric in SELECTION for variant in variants]
    return entries_table(lines_of(task), f"selection_{pooling}", f"Selective prediction, {pooling}", text, sources)


def robustness(task: TaskResults, pooling: str) -> Table | None:
    text = f"On corrupted test images, mean over kinds and severities, members pooled by {pooling}."
    sources = {f"shifted/{pooling}/{metric}": "" for metric in SHIFTED}
    titles = {source: f"shifted {quantity_of(source).title}" for source in sources}
    return entries_table(lines_of(task), f"robustness_{pooling}", f"Robustness, {pooling}", text, titles)


def severity(task: TaskResults, pooling: str) -> Table | None:
    text = f"On corrupted test images by severity (1 mild, 5 strong), mean over kinds, members pooled by {pooling}."
    titles = {
        f"shifted/{level}/{pooling}/{metric}": f"{quantity_of(f'shifted/{level}/{pooling}/{metric}').title}, severity {level}"
        for metric in ("accuracy", "nll", "ece")
        for level in range(1, 6)
    }
    return entries_table(lines_of(task), f"severity_{pooling}", f"Robustness by severity, {pooling}", text, titles)


def out_of_distribution(task: TaskResults, pooling: str) -> Table | None:
    text = (
        f"Telling test images from those of another data set by a score of the pooled prediction ({pooling}): its largest "
        "probability, its entropy, or the members' mutual information."
    )
    sources = {
        source: f"{name}: {quantity_of(source).title}"
        for name in task.task.out_of_distribution
        for metric in OUT_OF_DISTRIBUTION
        if task.holds(source := f"out_of_distribution/{name}/{pooling}/{metric}")
    }
    title = f"Out-of-distribution detection, {pooling}"
    return entries_table(lines_of(task), f"out_of_distribution_{pooling}", title, text, sources)


def members(task: TaskResults) -> Table | None:
    text = "What the members reach alone, on average, and what pooling them adds, on test images."
    sources = {
        "test/member/accuracy": "mean member accuracy",
        **{f"test/{pooling}/accuracy": f"ensemble accuracy, {pooling}" for pooling in POOLINGS},
        **{f"test/{pooling}/gain": f"gain, {pooling}" for pooling in POOLINGS},
        "test/member/nll": "mean member NLL",
        "test/member/brier": "mean member Brier",
        "test/member/ece": "mean member ECE",
    }
    return entries_table(lines_of(task), "members", "Members and ensemble", text, sources)


def diversity(task: TaskResults) -> Table | None:
    text = (
        "How the members differ on test images; every pairwise measure is a mean over pairs. Ambiguity is what pooling "
        "takes off the members' mean loss."
    )
    sources = {
        **{f"test/{metric}": "" for metric in DIVERSITY},
        **{f"test/{pooling}/ambiguity_nll": f"ambiguity NLL, {pooling}" for pooling in POOLINGS},
        "test/prob_mean/ambiguity_brier": "ambiguity Brier, prob_mean",
    }
    return entries_table(lines_of(task), "diversity", "Diversity", text, sources)


def costs_counted(task: TaskResults) -> Table | None:
    sources = [f"costs/{name}" for name in COUNTED]
    return entries_table(lines_of(task), "costs_counted", "Costs, counted", "The same on every machine.", sources)


def costs_measured(task: TaskResults) -> Table | None:
    sources = [f"measured/{name}" for name in MEASURED]
    text = f"On {' and '.join(task.devices)}." if task.devices else ""
    notes = ["Runs were measured on different devices: their times do not compare."] if len(task.devices) > 1 else []
    return entries_table(lines_of(task), "costs_measured", "Costs, measured", text, sources, notes=notes)


def costs_relative(task: TaskResults) -> Table | None:
    text = "Each run's cost divided by the mean cost of the single network of the same task."
    sources = [f"relative/{source}" for source in RELATIVE]
    return entries_table(lines_of(task), "costs_relative", "Costs relative to the single network", text, sources)


def unfinished(task: TaskResults) -> Table | None:
    """Every planned run without a result, with the reason."""
    missing = task.runs[task.runs["status"] != "done"]
    if missing.empty:
        return None
    styles = {entry.label: entry.style for entry in task.entries}
    columns = [Column(name, name) for name in ("method", "seed", "status", "reason")]
    rows: list[list[Cell | str]] = [
        [label, str(seed), status, reason]
        for label, seed, status, reason in missing[["label", "seed", "status", "reason"]].itertuples(index=False)
    ]
    text = "They count as planned in every cell above and enter no mean."
    return Table(
        "unfinished", "Missing and failed runs", text, columns, rows, [], [styles[str(row[0])] for row in rows]
    )


POOLED = (
    *(calibration, calibration_scaled, calibration_cross_validated, selection),
    *(robustness, severity, out_of_distribution, equivalents_table),
)
"""Tables that are made once for each pooling."""

TABLES: list[Callable[[TaskResults], Table | None]] = [
    accuracy,
    *(partial(table, pooling=pooling) for table in POOLED for pooling in POOLINGS),
    members,
    diversity,
    *(partial(comparisons, metric=metric) for metric in ("accuracy", "nll", "nll_calibrated", "ece")),
    paper_against_ours,
    *(partial(fronts, metric=metric) for metric in ("accuracy", "nll_calibrated")),
    costs_counted,
    costs_measured,
    costs_relative,
    comparability,
    unfinished,
]


def make_tables(task: TaskResults) -> list[Table]:
    """Those of TABLES that the task has data for; of two poolings the headline's first."""
    made = [table for table in (make(task) for make in TABLES) if table is not None]
    if task.pooling == POOLINGS[0]:
        return made
    by_name = {table.name: table for table in made}
    swap = dict(zip(POOLINGS, reversed(POOLINGS), strict=True))
    return [by_name.get(_other_pooling(table.name, swap), table) for table in made]


def summary_sources(pooling: str) -> dict[str, str]:
    """The few columns that fit a terminal, with their titles."""
    return {
        f"test/{pooling}/accuracy": "test accuracy",
        f"test/{pooling}/nll": "",
        f"test/{pooling}/ece": "",
        "relative/costs/training_flops": "",
        "measured/train_seconds": "",
    }


def summary(task: TaskResults) -> Table:
    sources = summary_sources(task.pooling)
    table = entries_table(lines_of(task), "summary", "Overview", "", sources, [next(iter(sources))])
    assert table is not None  # its first column is always shown
    return table


def _other_pooling(name: str, swap: dict[str, str]) -> str:
    for pooling, other in swap.items():
        if name.endswith(f"_{pooling}"):
            return name.removesuffix(pooling) + other
    return name
