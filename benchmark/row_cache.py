"""What became of each run, without reading 10,000 rows: remembered by time and size of the files it was read from. No torch."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.config import Run
from benchmark.store import Results, Row, newer, write_atomically

PARTS = ("status", "reason", "failure")
"""Of a row, for telling a run's state."""

Stamp = list[int]


def outcomes(results: Results, study_name: str, runs: Sequence[Run]) -> dict[str, Row]:
    """PARTS of the rows of finished and failed runs, by key."""
    path = results.study_dir(study_name) / ".outcomes.json"
    known = _read(path)
    collected_stamp = _stamp(results.collected_path(study_name))
    if known["collected"]["stamp"] != collected_stamp:
        collected = results.collected(study_name) if collected_stamp else {}
        known["collected"] = {"stamp": collected_stamp, "rows": {key: _parts(row) for key, row in collected.items()}}
    fresh: dict[str, dict[str, Any]] = {}
    begun = results.begun()
    for run in runs:
        stamp = _stamp(results.run_dir(run.key) / "row.json") if run.key in begun else None
        if stamp is not None:
            before = known["runs"].get(run.key)
            row = before["row"] if before and before["stamp"] == stamp else results.row(run.key)
            if row is not None:
                fresh[run.key] = {"stamp": stamp, "row": _parts(row)}
    if fresh != known["runs"] or collected_stamp != known["written"]:
        _write(path, {"written": collected_stamp, "collected": known["collected"], "runs": fresh})
    rows: dict[str, Row] = {}
    for run in runs:
        here, before = fresh.get(run.key), known["collected"]["rows"].get(run.key)
        if (row := newer(here["row"] if here else None, before)) is not None:
            rows[run.key] = row
    return rows


def _parts(row: Row) -> Row:
    return {part: row.get(part) for part in PARTS}


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def _read(path: Path) -> dict[str, Any]:
    """The cache, or an empty one where it is missing, damaged or of another shape."""
    empty: dict[str, Any] = {"written": None, "collected": {"stamp": None, "rows": {}}, "runs": {}}
    try:
        known = json.loads(path.read_text())
        rows = [*known["collected"]["rows"].values(), *(entry["row"] for entry in known["runs"].values())]
        is_whole = all(set(row) == set(PARTS) for row in rows) and "stamp" in known["collected"] and "written" in known
        return known if is_whole and all("stamp" in entry for entry in known["runs"].values()) else empty
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return empty


def _write(path: Path, content: dict[str, Any]) -> None:
    """Only beside a study's other files; a folder that can't be written has no cache."""
    if path.parent.is_dir():
        with contextlib.suppress(OSError):
            write_atomically(path, lambda file: file.write(json.dumps(content).encode()), durable=False)
