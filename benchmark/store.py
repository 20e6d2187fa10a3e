"""What is on disk: run folders, rows, example files. Every file is written whole or not at all. No torch.

results/<study>/study.yaml               the resolved grid
results/<study>/rows.jsonl               the study's rows, one line each, sorted by key
results/<study>/examples/<key>.parquet   per test image: label, and per pooling class, confidence, true probability
results/runs/<key>/                      one run: row.json (the truth), checkpoint, weights, logits, log, history
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import yaml

from benchmark.config import Study, expand, read_study
from benchmark.errors import UserError

Row = dict[str, Any]

ROW_PARTS = {
    **dict.fromkeys(("key", "method", "status"), str),
    **dict.fromkeys(("options", "task", "recipe", "metrics", "costs", "measured", "data", "environment"), dict),
}
"""What a file must hold to be taken for a row."""


class Results:
    """A results folder."""

    def __init__(self, root: Path):
        self.root = root

    def run_dir(self, key: str) -> Path:
        return self.root / "runs" / key

    def study_dir(self, name: str) -> Path:
        return self.root / name

    def create(self) -> None:
        """Make the folder and see that it can be written. Raises UserError."""
        probe = self.root / "runs" / f".probe-{os.getpid()}"
        try:
            write_atomically(probe, lambda file: file.write(b"\0" * 65536))
            probe.unlink()
        except OSError as error:
            with contextlib.suppress(OSError):
                probe.unlink()
            raise UserError(f"results folder {self.root}: can't be written ({error.strerror})") from None

    def write_study(self, study: Study) -> None:
        text = yaml.safe_dump(study.written(), sort_keys=False, allow_unicode=True, width=120)
        write_atomically(self.study_dir(study.name) / "study.yaml", lambda file: file.write(text.encode()))

    def read_study(self, name: str) -> Study:
        """The resolved grid that was swept last under this name. Raises UserError."""
        path = self.study_dir(name) / "study.yaml"
        if not path.is_file():
            known = sorted(file.parent.name for file in self.root.glob("*/study.yaml"))
            raise UserError(
                f"{self.root} holds no study {name!r} (it holds: {', '.join(known) or 'none'}); "
                f"run it first: python -m benchmark.sweep {name}"
            )
        return read_study(path)

    def row(self, key: str) -> Row | None:
        """The row of a run folder; None where there is none or where it is damaged, which is set aside."""
        path = self.run_dir(key) / "row.json"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            text = ""
        row = parse_row(text)
        if row is None or row["key"] != key:
            set_aside(path, "is no row of this run")
            return None
        return row

    def write_row(self, row: Row) -> None:
        """The last thing a run writes: it marks the run finished."""
        text = json.dumps(row, indent=1, sort_keys=True) + "\n"
        write_atomically(self.run_dir(row["key"]) / "row.json", lambda file: file.write(text.encode()))

    def rows(self, study: Study) -> dict[str, Row]:
        """The study's rows by key: those collected before, renewed from the run folders at hand."""
        collected, begun = self.collected(study.name), self.begun()
        rows: dict[str, Row] = {}
        for run in expand(study):
            here = self.row(run.key) if run.key in begun else None
            if (row := newer(here, collected.get(run.key))) is not None:
                rows[run.key] = row
        return rows

    def begun(self) -> set[str]:
        """Keys of the runs that have a folder here."""
        try:
            return set(os.listdir(self.root / "runs"))
        except OSError:
            return set()

    def collect(self, study: Study) -> dict[str, Row]:
        """Write the study's rows and example files beside its grid, and return the rows by key.

        Rows that the grid no longer holds stay in the file: a changed study loses nothing.
        """
        rows = self.rows(study)
        kept = self.collected(study.name) | rows
        lines = "".join(json.dumps(kept[key], sort_keys=True) + "\n" for key in sorted(kept))
        _write_if_changed(self.collected_path(study.name), lines.encode())
        for key, row in rows.items():
            source = self.run_dir(key) / "examples.parquet"
            if row["status"] == "done" and source.is_file():
                _write_if_changed(self.examples_path(study.name, key), source.read_bytes())
        return rows

    def examples_path(self, study_name: str, key: str) -> Path:
        return self.study_dir(study_name) / "examples" / f"{key}.parquet"

    def examples(self, study_name: str, key: str) -> pd.DataFrame | None:
        """A run's test images, one row each; None where the file is missing or damaged, which is set aside."""
        path = self.examples_path(study_name, key)
        if not path.is_file():
            return None
        try:
            return pd.read_parquet(path)
        except Exception:  # pyarrow raises its own, OSError and others for damaged files
            set_aside(path, "can't be read as an example file")
            return None

    def collected_path(self, study_name: str) -> Path:
        return self.study_dir(study_name) / "rows.jsonl"

    def collected(self, study_name: str) -> dict[str, Row]:
        path = self.collected_path(study_name)
        if not path.is_file():
            return {}
        rows, damaged = {}, 0
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            row = parse_row(line)
            if row is None:
                damaged += 1
            else:
                rows[row["key"]] = row
        if damaged:
            shutil.copy(path, path.with_name("rows.jsonl.damaged"))
            warn(f"{path}: {damaged} damaged lines left out (a copy is in rows.jsonl.damaged)")
        return rows


def newer(here: Row | None, collected: Row | None) -> Row | None:
    """Of a run folder's row and the one collected before, the one that counts: a failure undoes no success."""
    if here is None or (collected is not None and (here["status"], collected["status"]) == ("failed", "done")):
        return collected
    return here


def parse_row(text: str) -> Row | None:
    """The row that a text holds, or None."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not all(isinstance(row.get(part), kind) for part, kind in ROW_PARTS.items()):
        return None
    numbers = [number for part in ("metrics", "costs", "measured") for number in row[part].values()]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        return None
    is_whole = row["status"] in ("failed", "skipped") or (
        row["status"] == "done" and all((row["metrics"], row["costs"]))
    )
    return row if is_whole else None


def write_atomically(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename, fsync of the folder.

    Raises OSError, with the file's name. `durable=False` leaves out fsync, for files that may be lost with the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def set_aside(path: Path, why: str) -> None:
    """Rename a damaged file to `*.damaged`, saying so: it is never used, and never lost."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(path.name + ".damaged"))
    warn(f"{path}: {why}; set aside as {path.name}.damaged")


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _write_if_changed(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, lambda file: file.write(content))
