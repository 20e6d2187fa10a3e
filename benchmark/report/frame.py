"""Rows of a study -> a tidy frame with one line per planned run, finished or not.

Columns: key, label, method, task, dataset, network, seed, status (done, failed, skipped or missing), why (a class, of
runs without a result), reason, device, then every metric under its own name (`test/prob_mean/accuracy`), every cost
(`costs/…`, `measured/…`), and what follows from them: `test/<pooling>/gain` and, where the study holds a single network,
`relative/costs/…` and `relative/measured/…`. Numbers are float64; NaN where a run has none.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from benchmark.config import Run
from benchmark.endings import TEXTS
from benchmark.metrics.pooling import POOLINGS
from benchmark.states import FINISHED, NOT_SUBMITTED, RUNNING, RunState, run_states
from benchmark.statistics import CONFIDENCE, Estimate, estimate_mean
from benchmark.store import Results, Row
from benchmark.study_rows import StudyRows

RELATIVE = (
    *(f"costs/{name}" for name in ("parameters", "nonzero_parameters", "forward_flops", "forward_flops_nonzero")),
    *(f"costs/{name}" for name in ("training_flops", "training_flops_nonzero", "rows_seen")),
    *(f"measured/{name}" for name in ("train_seconds", "latency_ms_batch1", "throughput_batch256", "peak_bytes")),
)
"""Costs that are also shown relative to the single network of the same task."""


def runs_frame(planned: Sequence[Run], results: Results, rows: StudyRows) -> pd.DataFrame:
    """All columns but the relative ones; `task` is empty."""
    heads = rows.heads
    states = list(run_states(planned, results, heads))
    whys = [_missing(known) for known in states]
    tasks = {id(run.task): run.task for run in planned}
    networks = {name: task.network_slug for name, task in tasks.items()}
    texts: dict[str, Any] = {
        "key": [run.key for run in planned],
        "label": [run.label for run in planned],
        "method": [run.method for run in planned],
        "task": "",
        "dataset": [run.task.folder or run.task.dataset for run in planned],
        "network": [networks[id(run.task)] for run in planned],
        "seed": [run.seed for run in planned],
        "status": [heads[run.key]["status"] if run.key in heads else "missing" for run in planned],
        "why": [why for why, _ in whys],
        "reason": [reason for _, reason in whys],
        "device": [str(environment_of(heads.get(run.key, {})).get("device", "")) for run in planned],
    }
    numbers = rows.numbers(texts["key"])
    numbers = numbers[[name for name in numbers.columns if name not in texts]]
    member = "test/member/accuracy"
    gains = {
        f"test/{pooling}/gain": numbers[f"test/{pooling}/accuracy"] - numbers[member]
        for pooling in POOLINGS
        if {member, f"test/{pooling}/accuracy"} <= set(numbers.columns)
    }
    return pd.concat([pd.DataFrame(texts), numbers.assign(**gains)], axis=1)


def with_relative(runs: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    """Costs of a task's runs relative to the mean of those labelled `reference`, added as columns."""
    relative = {}
    for source in RELATIVE:
        if source in runs:
            single = estimate_mean(runs.loc[runs["label"] == reference, source].dropna())
            if single is not None and single.mean > 0:
                relative[f"relative/{source}"] = runs[source] / single.mean
    return pd.concat([runs, pd.DataFrame(relative, index=runs.index)], axis=1)


def estimates(runs: pd.DataFrame) -> dict[str, Estimate]:
    """estimate_mean of every column of float64 over the runs that have it; without columns that none has."""
    numbers = runs.select_dtypes(np.float64)
    values_SC = numbers.to_numpy()
    there_SC = np.isfinite(values_SC)
    count_C = there_SC.sum(0)
    columns = count_C > 0
    values_SC, there_SC, count_C = values_SC[:, columns], there_SC[:, columns], count_C[columns]
    mean_C = np.where(there_SC, values_SC, 0).sum(0) / count_C
    lowest_C = np.where(there_SC, values_SC, np.inf).min(0)
    highest_C = np.where(there_SC, values_SC, -np.inf).max(0)
    mean_C = np.where(lowest_C == highest_C, lowest_C, mean_C)  # of equal floats it may differ in its last bit
    squares_C = (np.where(there_SC, values_SC - mean_C, 0) ** 2).sum(0)
    free_C = np.maximum(count_C - 1, 1)
    half_width_C = stdtrit(free_C, 0.5 + CONFIDENCE / 2) * np.sqrt(squares_C / free_C) / np.sqrt(count_C)
    return {
        name: Estimate(mean, half_width if count > 1 else None, count)
        for name, mean, half_width, count in zip(
            numbers.columns[columns], mean_C.tolist(), half_width_C.tolist(), count_C.tolist(), strict=True
        )
    }


def mixtures(rows: Iterable[Row]) -> list[str]:
    """What differs between rows though it should not: `2 code versions: 1c78f20 (12 runs), 0123456 dirty (2 runs)`."""
    environments = [environment_of(row) for row in rows]
    found = []
    for what, name_of in (("code versions", _code), ("devices", _device)):
        counts = Counter(map(name_of, environments))
        if len(counts) > 1:
            each = ", ".join(f"{name} ({count} run{'s' * (count > 1)})" for name, count in counts.most_common())
            found.append(f"{len(counts)} {what}: {each}")
    return found


def environment_of(row: Row) -> dict[str, Any]:
    environment = row.get("environment")
    return environment if isinstance(environment, dict) else {}


def _code(environment: dict[str, Any]) -> str:
    """`1c78f2012345`, `012345678901 dirty 9f86d08`: changes to one commit are told apart by their digest."""
    commit, _, dirty = str(environment.get("commit") or "unknown").partition("-")
    return " ".join(part for part in (commit, dirty, str(environment.get("diff") or "")[:7]) if part)


def _device(environment: dict[str, Any]) -> str:
    return str(environment.get("device") or "unknown")


def _missing(known: RunState) -> tuple[str, str]:
    """Why a run has no result, as a class and in more words; from the run's own files, not from a cluster's queue."""
    if known.state == FINISHED:
        return "", known.detail
    if known.state == NOT_SUBMITTED:
        return "not run yet", "not run yet"
    if known.state == RUNNING:
        return RUNNING, RUNNING  # how far it is, a report need not tell
    return TEXTS.get(known.why, str(known.why)) if known.why else known.state, known.detail
