"""Where the numbers come from: commits, devices, versions, dates, recipe, data."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from benchmark.report.gather import Gathered, environment_of
from benchmark.store import Row


def describe_origin(gathered: Gathered) -> list[tuple[str, str]]:
    """Pairs of name and text, only of what rows and study record."""
    keys = gathered.runs.loc[gathered.runs["status"] == "done", "key"]
    done = [gathered.rows[key] for key in keys]
    study = gathered.study
    dates = sorted(str(row["finished"]) for row in done if row.get("finished"))
    lines = [
        ("study", f"{study.title} ({study.name})" if study.title else study.name),
        ("seeds", ", ".join(str(seed) for seed in study.seeds)),
        ("recipe of every method", _flatten(study.recipe.model_dump())),
        *((f"task {task.name}", _flatten(task.task.model_dump())) for task in gathered.tasks),
        *(
            (
                f"data of {task.name}",
                _distinct(_flatten(row.get("data")) for row in _of_task(gathered, task.name, done)),
            )
            for task in gathered.tasks
        ),
        ("code", _distinct(str(environment_of(row).get("commit") or "") for row in done)),
        ("device", _distinct(_device(row) for row in done)),
        ("versions", _distinct(_flatten(environment_of(row).get("versions")) for row in done)),
        ("finished", dates[0] if len(set(dates)) == 1 else f"{dates[0]} to {dates[-1]}" if dates else ""),
    ]
    return [(name, text) for name, text in lines if text]


def _of_task(gathered: Gathered, task_name: str, done: list[Row]) -> list[Row]:
    keys = set(gathered.runs.loc[gathered.runs["task"] == task_name, "key"])
    return [row for row in done if row["key"] in keys]


def _device(row: Row) -> str:
    environment = environment_of(row)
    threads = environment.get("threads")
    return str(environment.get("device") or "") + (f", {threads} threads" if threads else "")


def _distinct(texts: Iterable[str]) -> str:
    """One text, or each with the number of runs behind it."""
    counts = Counter(text for text in texts if text)
    if len(counts) <= 1:
        return next(iter(counts), "")
    return "; ".join(f"{text} ({count} runs)" for text, count in sorted(counts.items()))


def _flatten(values: Any, prefix: str = "") -> str:
    """`epochs 30, augmentation.flip True`: nested settings in one line; what is not set is left out."""
    if not isinstance(values, dict):
        return ""
    parts = []
    for key, value in values.items():
        if isinstance(value, dict):
            parts.append(_flatten(value, f"{prefix}{key}."))
        elif value is not None and value != []:
            shown = " ".join(map(_short, value)) if isinstance(value, list) else _short(value)
            parts.append(f"{prefix}{key} {shown}")
    return ", ".join(part for part in parts if part)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
