"""Measured training rates on disk, from which a sweep's cost is predicted before any run has finished. No torch.

results/speed.jsonl: one line per method of a measurement, appended: device, method, options, network, recipe, rate.
"""

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.config import Run
from benchmark.files import warn, write_atomically

FILE_NAME = "speed.jsonl"
Record = dict[str, Any]


def record_of(run: Run, device: str, threads: int, flops_per_second: float) -> Record:
    """`flops_per_second`: training FLOPs as a run's row counts them, per second of training."""
    recipe = run.recipe.model_dump(include={"batch_size", "precision", "channels_last", "compile"})
    return {
        "device": device,
        "threads": threads,
        "method": run.method,
        "options": run.options,
        "network": run.task.network,
        "recipe": recipe,
        "flops_per_second": flops_per_second,
    }


def append(results: Path, records: Iterable[Record]) -> None:
    """Raises OSError."""
    path = results / FILE_NAME
    before = path.read_bytes() if path.is_file() else b""
    lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
    write_atomically(path, lambda file: file.write(before + lines.encode()))


def read(results: Path) -> list[Record]:
    """Lines that can't be read are left out, with one line on standard error."""
    path = results / FILE_NAME
    records: list[Record] = []
    num_damaged = 0
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            record = json.loads(line)
            rate, *_ = (record[part] for part in ("flops_per_second", "device", "method", "network", "recipe"))
            if type(rate) not in (int, float) or not 0 < rate < math.inf:
                raise ValueError(rate)
            records.append(record)
        except (ValueError, TypeError, KeyError, RecursionError):
            num_damaged += 1
    if num_damaged:
        warn(f"{path}: {num_damaged} lines are no speed records; left out")
    return records


def rate_for(run: Run, records: Iterable[Record], device: str) -> float | None:
    """FLOP/s of the records of a device that are most like a run: of its method and network, else of either, else of all."""
    there = [record for record in records if record["device"] == device]
    alike = [(record["method"] == run.method) + (record["network"] == run.task.network) for record in there]
    nearest = [record["flops_per_second"] for record, score in zip(there, alike, strict=True) if score == max(alike)]
    return statistics.median(nearest) if nearest else None
