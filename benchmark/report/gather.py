"""Rows of a study -> a tidy frame with one line per planned run, finished or not, grouped by task.

Columns: key, label, method, task, dataset, network, seed, status (done, failed, skipped or missing), why (a class, of
runs without a result), reason, device, then every metric under its own name (`test/prob_mean/accuracy`), every cost
(`costs/…`, `measured/…`), and what follows from them: `test/<pooling>/gain` and, where the study holds a single network,
`relative/costs/…` and `relative/measured/…`.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.config import Run, Study, TaskConfig, expand
from benchmark.endings import TEXTS
from benchmark.metrics.pooling import POOLINGS
from benchmark.report.palette import Style, choose_styles
from benchmark.states import FINISHED, NOT_SUBMITTED, RUNNING, RunState, run_states
from benchmark.statistics import Estimate, estimate_mean
from benchmark.store import Results, Row, warn

RELATIVE = (
    *(f"costs/{name}" for name in ("parameters", "nonzero_parameters", "forward_flops", "forward_flops_nonzero")),
    *(f"costs/{name}" for name in ("training_flops", "training_flops_nonzero")),
    *(f"measured/{name}" for name in ("train_seconds", "latency_ms_batch1", "throughput_batch256", "peak_bytes")),
)
"""Costs that are also shown relative to the single network of the same task."""


@dataclass(frozen=True)
class Entry:
    """One line of a task's tables: a method with its options, over all seeds."""

    label: str
    method: str
    deviations: dict[str, Any]
    style: Style
    runs: pd.DataFrame

    @property
    def planned(self) -> int:
        return len(self.runs)

    @property
    def finished(self) -> int:
        return int((self.runs["status"] == "done").sum())

    def estimate(self, source: str) -> Estimate | None:
        """Mean and interval of a column over the runs that have it; None where none has."""
        return estimate_mean(self.runs[source].dropna()) if source in self.runs else None


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

    def holds(self, source: str) -> bool:
        """Whether any run has a number in this column."""
        return source in self.runs and bool(self.runs[source].notna().any())

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

    def examples(self, entry: Entry) -> list[pd.DataFrame]:
        """The example files of an entry's finished runs, one per seed; without those that are missing or foreign."""
        needed = {"label", f"{self.pooling}_class", f"{self.pooling}_confidence"}
        frames = []
        for key in entry.runs.loc[entry.runs["status"] == "done", "key"]:
            frame = self.results.examples(self.study_name, key)
            if frame is not None and not needed <= set(frame.columns):
                warn(
                    f"{self.results.examples_path(self.study_name, key)}: lacks a column of {sorted(needed)}; left out"
                )
            elif frame is not None and len(frame):
                frames.append(frame)
        return frames


@dataclass(frozen=True)
class Gathered:
    study: Study
    rows: dict[str, Row]
    runs: pd.DataFrame
    tasks: list[TaskResults]

    @property
    def finished(self) -> int:
        return int((self.runs["status"] == "done").sum())


def gather(results: Results, study: Study, rows: dict[str, Row], pooling: str = "prob_mean") -> Gathered:
    planned = expand(study)
    states = {known.run.key: known for known in run_states(planned, results, rows)}
    styles = choose_styles((run.label, run.method) for run in planned)
    tasks, parts = [], []
    for name, title, task in _name_tasks(study.tasks):
        of_task = [run for run in planned if run.task == task]
        part = pd.DataFrame([_line(states[run.key], rows.get(run.key), name) for run in of_task])
        part = _with_relative(part, _reference(of_task))
        first = {run.label: run for run in reversed(of_task)}
        entries = [
            Entry(label, first[label].method, first[label].deviations, styles[label], part[part["label"] == label])
            for label in dict.fromkeys(run.label for run in of_task)
        ]
        tasks.append(TaskResults(name, title, task, entries, part, pooling, results, study.name))
        parts.append(part)
    return Gathered(study, rows, pd.concat(parts, ignore_index=True), tasks)


def _line(known: RunState, row: Row | None, task_name: str) -> dict[str, Any]:
    run = known.run
    why, reason = _missing(known)
    line: dict[str, Any] = {
        "key": run.key,
        "label": run.label,
        "method": run.method,
        "task": task_name,
        "dataset": run.task.folder or run.task.dataset,
        "network": run.task.network_slug,
        "seed": run.seed,
        "status": row["status"] if row else "missing",
        "why": why,
        "reason": reason,
        "device": environment_of(row).get("device", "") if row else "",
    }
    if row and row["status"] == "done":
        numbers = _numbers(row["metrics"]) | _numbers(row["costs"], "costs/") | _numbers(row["measured"], "measured/")
        line |= {name: value for name, value in numbers.items() if name not in line}
        for pooling in POOLINGS:
            ensemble, member = line.get(f"test/{pooling}/accuracy"), line.get("test/member/accuracy")
            if ensemble is not None and member is not None:
                line[f"test/{pooling}/gain"] = ensemble - member
    return line


def _missing(known: RunState) -> tuple[str, str]:
    """Why a run has no result, as a class and in more words; from the run's own files, not from a cluster's queue."""
    if known.state == FINISHED:
        return "", known.detail
    if known.state == NOT_SUBMITTED:
        return "not run yet", "not run yet"
    if known.state == RUNNING:
        return RUNNING, RUNNING  # how far it is, a report need not tell
    return TEXTS[known.why] if known.why else known.state, known.detail


def environment_of(row: Row) -> dict[str, Any]:
    environment = row.get("environment")
    return environment if isinstance(environment, dict) else {}


def _numbers(values: Any, prefix: str = "") -> dict[str, float]:
    """The finite numbers among a row's values; anything else is no value, and the count behind a cell says so."""
    if not isinstance(values, dict):
        return {}
    return {
        f"{prefix}{name}": float(value)
        for name, value in values.items()
        if type(value) in (int, float) and math.isfinite(value)
    }


def _reference(runs: list[Run]) -> str | None:
    """The label that costs are relative to: a single network, one that follows the study's recipe if there is any."""
    singles = sorted((run for run in runs if run.method == "single"), key=lambda run: bool(run.deviations))
    return singles[0].label if singles else None


def _with_relative(runs: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    relative = {}
    for source in RELATIVE:
        if source in runs:
            single = estimate_mean(runs.loc[runs["label"] == reference, source].dropna())
            if single is not None and single.mean > 0:
                relative[f"relative/{source}"] = runs[source] / single.mean
    return pd.concat([runs, pd.DataFrame(relative, index=runs.index)], axis=1)


def _name_tasks(tasks: list[TaskConfig]) -> list[tuple[str, str, TaskConfig]]:
    """Each task once with a name for files and a title: `cifar100-resnet18` and `cifar100, resnet (depth 18)`.

    What tells tasks of one data set and network apart is added: `…-train_images=500`.
    """
    distinct = [task for index, task in enumerate(tasks) if task not in tasks[:index]]
    shorts = [f"{task.folder or task.dataset}-{task.network_slug}" for task in distinct]
    named = []
    for task, short in zip(distinct, shorts, strict=True):
        rivals = [_flat(other) for other, name in zip(distinct, shorts, strict=True) if name == short]
        differing = {key: v for key, v in _flat(task).items() if any(rival.get(key) != v for rival in rivals)}
        name = re.sub(r"[^\w.=+-]+", "_", "-".join([short, *(f"{key}={value}" for key, value in differing.items())]))
        options = ", ".join(f"{k} {v}" for k, v in task.network.items() if k != "name" and v is not None)
        title = f"{task.folder or task.dataset}, {task.network.get('name', '')}" + (f" ({options})" if options else "")
        for key, value in differing.items():
            if not key.startswith("network."):
                title += f", {key} {value}"
        named.append((name, title, task))
    return named


def _flat(task: TaskConfig) -> dict[str, Any]:
    return task.model_dump(exclude={"network"}) | {f"network.{key}": value for key, value in task.network.items()}
