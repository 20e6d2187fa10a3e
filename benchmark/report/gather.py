"""Rows of a study -> the entries of each task and, in a tidy frame (frame.py), their runs."""

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.config import LATER_SETTINGS, Recipe, Run, Study, TaskConfig, expand
from benchmark.files import names_in, warn_once
from benchmark.machine import SHARED
from benchmark.report.examples import why_unfit
from benchmark.report.frame import RELATIVE, environment_of, estimates, mixtures, runs_frame, with_relative
from benchmark.report.palette import Style, choose_styles
from benchmark.statistics import Estimate
from benchmark.store import Results, Row
from benchmark.study_rows import StudyRows

if TYPE_CHECKING:
    from benchmark.statistics import Comparison, Resampled, Resamples

__all__ = ["RELATIVE", "Entry", "Gathered", "TaskResults", "environment_of", "gather"]


Array = npt.NDArray[np.float64]
NO_VALUES: Array = np.empty(0)
LONGEST_NAME = 100
"""Of a task: files are called after it."""


@dataclass(frozen=True)
class Entry:
    """One line of a task's tables: a method with its options, over all seeds."""

    label: str
    method: str
    deviations: dict[str, Any]
    style: Style
    runs: pd.DataFrame
    num_members: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: float | None = None
    recipe: Recipe | None = None

    @functools.cached_property
    def planned(self) -> int:
        return len(self.runs)

    @functools.cached_property
    def finished(self) -> int:
        return int((self.runs["status"] == "done").sum())

    def values(self, source: str) -> Array:
        """A column over the runs that have it; empty where none has."""
        return self._values.get(source, NO_VALUES)

    @functools.cached_property
    def _values(self) -> dict[str, Array]:
        numbers = self.runs.select_dtypes(np.float64)
        columns = zip(numbers.columns, numbers.to_numpy().T, strict=True)
        return {str(name): values_S[~np.isnan(values_S)] for name, values_S in columns}

    def estimate(self, source: str) -> Estimate | None:
        """Mean and interval of a column over the runs that have it; None where none has."""
        return self._estimates.get(source)

    @functools.cached_property
    def _estimates(self) -> dict[str, Estimate]:
        return estimates(self.runs)


@dataclass(frozen=True)
class TaskResults:
    """What is known about one task: the entries and their runs."""

    name: str
    title: str
    task: TaskConfig
    entries: list[Entry]
    runs: pd.DataFrame
    pooling: str
    """The pooling of headlines and plots. Tables name theirs."""
    results: Results
    study_name: str
    checksums: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of the files beside a run's row, by its key."""

    def holds(self, source: str) -> bool:
        """Whether any run has a number in this column."""
        return source in self._held

    @functools.cached_property
    def _held(self) -> set[str]:
        return set(self.runs.columns[self.runs.notna().any()])

    def compare(self, first: Entry, second: Entry, source: str) -> "Comparison | None":
        """First minus second; None where it can't be told."""
        from benchmark.report.compare import compare_entries

        asked = first.label, second.label, source
        if asked not in self._comparisons:
            self._comparisons[asked] = compare_entries(self, first, second, source)
        return self._comparisons[asked]

    @functools.cached_property
    def _comparisons(self) -> "dict[tuple[str, str, str], Comparison | None]":
        return {}

    @functools.cached_property
    def resampled(self) -> "dict[tuple[str, str], Mapping[str, Resampled]]":
        """Bootstrapped metrics by label and pooling, as compare.py finds them."""
        return {}

    @functools.cached_property
    def resamples(self) -> "dict[bytes, Resamples]":
        """Test images drawn with replacement, by their labels: the same for all entries."""
        return {}

    @property
    def unfinished(self) -> str:
        """`3 of 14 runs are missing here: 1 out of memory on device, 2 not run yet.`; empty where none is."""
        whys = self.runs.loc[self.runs["status"] != "done", "why"].value_counts(sort=False)
        if whys.empty:
            return ""
        classes = ", ".join(f"{count} {why}" for why, count in sorted(whys.items()))
        return f"{whys.sum()} of {len(self.runs)} runs are missing here: {classes}."

    @property
    def devices(self) -> list[str]:
        return sorted(set(self.runs["device"]) - {""})

    def examples(self, entry: Entry, pooling: str | None = None) -> list[pd.DataFrame]:
        """The example files of an entry's finished runs, one per seed; without those that are missing or not the run's."""
        pooling = pooling or self.pooling
        if not self._with_examples:
            return []
        chosen = (entry.runs["status"] == "done") & entry.runs["key"].isin(self._with_examples)
        told = ["key", *(name for name in entry.runs if str(name).startswith(f"test/{pooling}/"))]
        frames = []
        for row in entry.runs.loc[chosen, told].to_dict("records"):
            frame = self.results.examples(self.study_name, row["key"], self.checksums.get(row["key"]))
            if frame is None or not len(frame):
                continue
            if why := why_unfit(frame, row, pooling):
                warn_once(f"{self.results.examples_path(self.study_name, row['key'])}: {why}; left out")
            else:
                frames.append(frame)
        return frames

    @functools.cached_property
    def _with_examples(self) -> set[str]:
        """Keys of the runs that have an example file; asked for once, and not for each of thousands."""
        folder = self.results.examples_path(self.study_name, "").parent
        there = {name.removesuffix(".parquet") for name in names_in(folder)}
        if lost := [key for key in self.runs["key"] if key in self.checksums and key not in there]:
            warn_once(
                f"{folder}: lacks the example files of {len(lost)} runs, such as {lost[0]}; compared without them"
            )
        return there

    def histories(self, entry: Entry) -> list[pd.DataFrame]:
        """Epochs of an entry's finished runs, one frame per seed: stage, epoch, loss, accuracy, monitored, train_seconds."""
        keys = entry.runs.loc[entry.runs["status"] == "done", "key"]
        frames = [self.results.history(self.study_name, key, self.checksums.get(key)) for key in keys]
        return [frame for frame in frames if frame is not None and len(frame)]


@dataclass(frozen=True)
class Gathered:
    study: Study
    rows: dict[str, Row]
    """Rows without options and numbers, as StudyRows.heads has them."""
    runs: pd.DataFrame
    tasks: list[TaskResults]

    @property
    def finished(self) -> int:
        return int((self.runs["status"] == "done").sum())

    @functools.cached_property
    def mixtures(self) -> list[str]:
        """Why the finished runs do not compare, a line for each reason: several code versions, several devices."""
        return mixtures(self.rows[key] for key in self.runs.loc[self.runs["status"] == "done", "key"])

    @property
    def warnings(self) -> list[str]:
        """What every table of these runs must say."""
        shared = sorted({device for task in self.tasks for device in task.devices if SHARED in device})
        of_shared = (
            [f"Times and energy are those of runs that shared a device ({'; '.join(shared)})."] if shared else []
        )
        return [f"The finished runs are not of a kind: {mixture}." for mixture in self.mixtures] + of_shared


def gather(
    results: Results,
    study: Study,
    rows: StudyRows,
    pooling: str = "prob_mean",
    planned: Sequence[Run] | None = None,
) -> Gathered:
    """`planned` is the grid where it is expanded already."""
    planned = expand(study) if planned is None else planned
    runs = runs_frame(planned, results, rows)
    styles = choose_styles((run.label, run.method) for run in planned)
    places_of: dict[int, list[int]] = {}
    for place, run in enumerate(planned):
        places_of.setdefault(id(run.task), []).append(place)  # of equal tasks, runs hold the first
    checksums = {key: head["files"] for key, head in rows.heads.items() if head["files"]}
    tasks = []
    for name, title, task in _name_tasks(study.tasks):
        places = places_of[id(task)]
        runs.loc[places, "task"] = name
        of_task = [planned[place] for place in places]
        part = with_relative(runs.iloc[places].reset_index(drop=True), _reference(of_task))
        lines_of: dict[str, list[int]] = {}
        for line, run in enumerate(of_task):
            lines_of.setdefault(run.label, []).append(line)
        entries = [_entry(of_task[lines[0]], styles[label], part.iloc[lines]) for label, lines in lines_of.items()]
        tasks.append(TaskResults(name, title, task, entries, part, pooling, results, study.name, checksums))
    together = pd.concat([task.runs for task in tasks], ignore_index=True)
    return Gathered(study, rows.heads, together, tasks)


def _entry(run: Run, style: Style, runs: pd.DataFrame) -> Entry:
    num_members = int(run.options.get("num_members", 1))
    return Entry(
        run.label, run.method, run.deviations, style, runs, num_members, run.options, run.recipe.epochs, run.recipe
    )


def _reference(runs: Sequence[Run]) -> str | None:
    """The label that costs are relative to: a single network, one that follows the study's recipe if there is any."""
    singles = sorted((run for run in runs if run.method == "single"), key=lambda run: bool(run.deviations))
    return singles[0].label if singles else None


def _name_tasks(tasks: list[TaskConfig]) -> list[tuple[str, str, TaskConfig]]:
    """Each task once with a name for files and a title: `cifar100-resnet18` and `cifar100, resnet (depth 18)`.

    What tells tasks of one data set and network apart is added, lists and tables by what they hold in number and a digest:
    `…-train_images=500`, `…-shifted=2x5-4be1`. A name that is too long for a file ends in a digest.
    """
    distinct = [task for index, task in enumerate(tasks) if task not in tasks[:index]]
    shorts = [f"{task.folder or task.dataset}-{task.network_slug}" for task in distinct]
    named = []
    for task, short in zip(distinct, shorts, strict=True):
        rivals = [_flat(other) for other, name in zip(distinct, shorts, strict=True) if name == short]
        differing = {key: v for key, v in _flat(task).items() if any(rival.get(key) != v for rival in rivals)}
        told = {key: _in_short(value) for key, value in differing.items()}
        name = re.sub(r"[^\w.=+-]+", "_", "-".join([short, *(f"{key}={value}" for key, value in told.items())]))
        name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 5]}-{_digest(name)}"
        usual = {"name": task.network.get("name")} | _usual_network_options()
        options = ", ".join(f"{k} {v}" for k, v in task.network.items() if v is not None and usual.get(k) != v)
        title = f"{task.folder or task.dataset}, {task.network.get('name', '')}" + (f" ({options})" if options else "")
        for key, value in told.items():
            if not key.startswith("network."):
                title += f", {key} {value}"
        named.append((name, title, task))
    return named


def _in_short(value: Any) -> str:
    """`2x5-4be1` for a table of a list of two and one of five, `3-9c02` for a list of three, else the value."""
    if isinstance(value, dict):
        return f"{'x'.join(str(len(part)) for part in value.values() if isinstance(part, list))}-{_digest(value)}"
    return f"{len(value)}-{_digest(value)}" if isinstance(value, list) and value else str(value)


def _digest(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()[:4]


def _usual_network_options() -> dict[str, Any]:
    """What a title need not name: options as they always were."""
    prefix = "task.network."
    return {path.removeprefix(prefix): value for path, value in LATER_SETTINGS.items() if path.startswith(prefix)}


def _flat(task: TaskConfig) -> dict[str, Any]:
    return task.model_dump(exclude={"network"}) | {f"network.{key}": value for key, value in task.network.items()}
