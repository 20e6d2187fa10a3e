"""What a study leaves behind, without what may differ between two times of the same: times, host, job."""

import getpass
import json
import time
from pathlib import Path
from typing import Any

from .sweeps import Difference, Sweep, marked

SECONDS_TO_DISAPPEAR = 60.0
KEPT = f"torchinductor_{getpass.getuser()}"
"""A folder that torch makes for all of a user's processes, and keeps."""


def left_by(results: Path, study: str = "soak") -> dict[str, Any]:
    """By name: what rows and histories say, and the bytes of predictions and of example files."""
    found: dict[str, Any] = {}
    for path in sorted(results.glob("runs/*/row.json")):
        found[f"{path.parent.name}: row"] = _untimed(json.loads(path.read_text()))
        found[f"{path.parent.name}: predictions"] = (path.parent / "logits.safetensors").read_bytes()
    for line in (results / study / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        found[f"{row['key']}: collected row"] = _untimed(row)
    for path in sorted((results / study / "examples").iterdir()):
        found[f"{path.name}: examples"] = path.read_bytes()
    for path in sorted((results / study / "histories").iterdir()):
        epochs = [json.loads(line) for line in path.read_text().splitlines()]
        found[f"{path.name}: history"] = [epoch | {"train_seconds": None} for epoch in epochs]
    return found


def compare(alone: dict[str, Any], attacked: dict[str, Any]) -> None:
    """Raises Difference at the first one."""
    for name in sorted(alone.keys() | attacked.keys()):
        if name not in alone or name not in attacked:
            raise Difference(f"{name}: only {'after the faults' if name in attacked else 'undisturbed'}")
        if alone[name] != attacked[name]:
            raise Difference(f"{name} differs: {_where(alone[name], attacked[name])}")


def expect_nothing_stray(results: Path, temporary: Path, sweeps: list[Sweep]) -> None:
    """Raises Difference where temporary files or processes stay behind, or anything was found damaged.

    multiprocessing's folder with a socket is removed by the fork server when its sweep is killed; nobody is left to do so
    where both were.
    """
    give_up_at = time.monotonic() + SECONDS_TO_DISAPPEAR
    while processes := marked(temporary):
        if time.monotonic() > give_up_at:
            raise Difference(f"processes left behind: {processes}")
        time.sleep(0.2)
    stray = [path for path in results.rglob("*") if path.name.endswith((".tmp", ".damaged"))]
    orphaned = sum(sweep.lost_its_server for sweep in sweeps)
    sockets = sorted(temporary.glob("pymp-*"))
    stray += [path for path in temporary.iterdir() if path.name != KEPT and path not in sockets[:orphaned]]
    if stray:
        raise Difference("stray files: " + ", ".join(map(str, stray)))


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    environment = {name: said for name, said in row["environment"].items() if name not in ("host", "job")}
    left_out = ("checksum", "files", "measured", "finished")  # times, and what covers them
    return {part: said for part, said in row.items() if part not in left_out} | {"environment": environment}


def _where(first: Any, second: Any, path: str = "") -> str:
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted(first.keys() | second.keys()):
            if first.get(name) != second.get(name):
                return _where(first.get(name), second.get(name), f"{path}/{name}")
    if isinstance(first, bytes) and isinstance(second, bytes):
        return f"{len(first)} and {len(second)} bytes"
    return f"{path or 'the whole'}: {first!r} undisturbed, {second!r} after the faults"
