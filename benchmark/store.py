"""What is on disk: run folders, rows, example files. Every file is written whole or not at all. No torch.

results/<study>/study.yaml               the resolved grid
results/<study>/rows.jsonl               the study's rows, one line each, sorted by key
results/<study>/examples/<key>.parquet   per test image: label, and per pooling class, confidence, true probability, losses
results/<study>/histories/<key>.jsonl    per epoch of each stage: loss, accuracy, seconds
results/<study>/.rows.cache              what the rows say, so that they need not be read again; may be deleted
results/runs/<key>/                      one run: row.json (the truth), checkpoint, weights, logits, log, history
"""

import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.config import Run, Study, expand, read_study
from benchmark.errors import UserError
from benchmark.files import names_in, set_aside, warn, write_atomically, write_if_changed
from benchmark.rows import Row, edited_row, is_as_written, parse_row, row_line, written_checksum
from benchmark.strict import yaml_text
from benchmark.study_rows import StudyRows
from benchmark.temporary import clear, temporary

__all__ = ["Results", "Row", "parse_row", "set_aside", "warn", "write_atomically"]

HISTORY = {"stage": str, "epoch": int, "loss": float, "accuracy": float, "monitored": str, "train_seconds": float}
"""Columns of a run's history."""

FOLDERS = ("examples", "histories", "report", "report/tables", "report/plots")
"""In a study's folder."""


class Results:
    """A results folder."""

    def __init__(self, root: Path):
        self.root = root

    def run_dir(self, key: str) -> Path:
        return self.root / "runs" / key

    def study_dir(self, name: str) -> Path:
        return self.root / name

    def create(self) -> None:
        """Make the folder, see that it can be written, and clear away what was left in it. Raises UserError."""
        probe = temporary(self.root / "runs" / "probe")
        try:
            write_atomically(probe, lambda file: file.write(b"\0" * 65536))
            probe.unlink()
        except OSError as error:
            with contextlib.suppress(OSError):
                probe.unlink()
            raise UserError(f"results folder {self.root}: can't be written ({error.strerror})") from None
        clear(self.root, self.root / "runs")

    def write_study(self, study: Study) -> None:
        text = yaml_text(study.written())
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
        study = read_study(path)
        if study.name != name:
            raise UserError(f"{path}: name: is {study.name!r}, but this is the folder of {name!r}")
        return study

    def row(self, key: str, trusting: bool = True) -> Row | None:
        """The row of a run folder; None where there is none or it is damaged, which is set aside.

        Raises UserError where it is not as its run wrote it, unless `trusting`.
        """
        path = self.run_dir(key) / "row.json"
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        row = parse_row(text)
        if row is None or row["key"] != key:
            set_aside(path, "is no row of this run")
            return None
        if not trusting and written_checksum(text) is None:
            raise UserError(f"{path}: {edited_row(key)}. Restore it, or remove the file and run it again")
        return row

    def write_row(self, row: Row) -> None:
        """The last thing a run writes: it marks the run finished. Adds the checksum."""
        write_atomically(self.run_dir(row["key"]) / "row.json", lambda file: file.write(row_line(row)))

    def rows(self, study: Study, trusting: bool = False) -> StudyRows:
        """The study's rows by key: those collected before, renewed from the run folders at hand.

        Raises UserError where one was edited by hand; `trusting` warns and takes it for what it says.
        """
        return self.rows_of(study.name, expand(study), trusting)

    def rows_of(self, study_name: str, runs: Sequence[Run], trusting: bool = False) -> StudyRows:
        """Those of a grid that is expanded already."""
        return StudyRows(self.root / "runs", self.study_dir(study_name), [run.key for run in runs], trusting)

    def begun(self) -> set[str]:
        """Keys of the runs that have a folder here."""
        return names_in(self.root / "runs")

    def collect(self, study: Study, trusting: bool = False) -> StudyRows:
        """Write the study's rows, example files and histories beside its grid, and return the rows.

        Raises UserError, before anything is written, where a row was edited by hand; `trusting` warns and leaves it where
        it is.
        """
        rows = self.rows(study, trusting)
        new = rows.newly_found()
        for ending, path_of in (("examples.parquet", self.examples_path), ("history.jsonl", self.history_path)):
            there = names_in(path_of(study.name, "").parent)
            for key, head in rows.heads.items():
                source, target = self.run_dir(key) / ending, path_of(study.name, key)
                if head["status"] == "done" and (key in new or target.name not in there):
                    content = _checked(source, head["files"], ending)
                    if content is not None:
                        write_if_changed(target, content)
        rows.collect()
        study_dir = self.study_dir(study.name)
        clear(study_dir, *(study_dir / part for part in FOLDERS))
        return rows

    def examples_path(self, study_name: str, key: str) -> Path:
        return self.study_dir(study_name) / "examples" / f"{key}.parquet"

    def examples(self, study_name: str, key: str, checksums: Mapping[str, str] | None = None) -> pd.DataFrame | None:
        """A run's test images, one row each; None where the file is missing or damaged, which is set aside.

        `checksums`: what the run's row says under `files`.
        """
        path = self.examples_path(study_name, key)
        content = _checked(path, checksums, "examples.parquet")
        if content is None:
            return None
        try:
            return pd.read_parquet(io.BytesIO(content))
        except Exception:  # pyarrow raises its own, OSError and others for damaged files
            set_aside(path, "can't be read as an example file")
            return None

    def history_path(self, study_name: str, key: str) -> Path:
        return self.study_dir(study_name) / "histories" / f"{key}.jsonl"

    def history(self, study_name: str, key: str, checksums: Mapping[str, str] | None = None) -> pd.DataFrame | None:
        """A run's epochs, one row each; None where the file is missing or damaged, which is set aside."""
        path = self.history_path(study_name, key)
        content = _checked(path, checksums, "history.jsonl")
        if content is None:
            return None
        try:
            lines = [json.loads(line) for line in content.splitlines()]
            return pd.DataFrame([{name: line[name] for name in HISTORY} for line in lines]).astype(HISTORY)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            set_aside(path, "can't be read as a history")
            return None


def _checked(path: Path, checksums: Mapping[str, str] | None, name: str) -> bytes | None:
    """A file's content; None where it is missing, or set aside: a link, or not what the run's row says."""
    if path.is_symlink():
        set_aside(path, "is a link")
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        if os.path.lexists(path):
            set_aside(path, f"can't be read ({error.strerror})")
        return None
    if not is_as_written(content, checksums, name):
        set_aside(path, "is not as its run wrote it")
        return None
    return content
