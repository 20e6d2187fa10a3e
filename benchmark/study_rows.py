"""The rows of a study: those collected before, renewed from the run folders at hand, each verified by its checksum. No torch.

A row whose checksum is missing or not its own was edited by hand. It is never set aside, collected or overwritten; a
report refuses it, and a sweep, which must tell what is done, takes it for what it says and warns.
"""

import contextlib
import functools
import io
import json
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from benchmark.errors import UserError
from benchmark.files import Stamp, names_in, set_aside, stamp_of, warn, warn_once, write_atomically
from benchmark.row_cache import NO_STAMP, PARTS, PLACES, KnownRows
from benchmark.rows import Row, checksum, edited_row, parse_row, row_line, written_checksum


@dataclass(slots=True)
class Found:
    """A row where it lies."""

    line: int
    """In KnownRows."""
    intact: bool
    offset: int = -1
    """In the collected rows; -1 in a run's folder."""


class StudyRows(Mapping[str, Row]):
    """Rows by key, read from disk when asked for; what all of them say is in `heads` and `numbers`.

    Raises UserError where one of `keys` or a collected row was edited by hand; `trusting` warns instead.
    """

    def __init__(self, runs_folder: Path, study_folder: Path, keys: Sequence[str], trusting: bool = False) -> None:
        self._runs_folder = runs_folder
        self.path = study_folder / "rows.jsonl"
        self._known = KnownRows(study_folder / ".rows.cache")
        self._stamps: dict[str, Stamp] = {}
        self._num_looked, self._damaged = 0, 0
        self._begun = names_in(runs_folder)
        self._collected = self._find_collected()
        self._here = self._find_here(keys)
        if edited := self._edited():
            if not trusting:
                raise UserError(edited)
            warn_once(f"{edited}; until then it counts as what it says")
        self._chosen = self._choose(keys)
        if self._num_looked * 100 > len(self._chosen):  # to read a few again costs less than to write all
            self._remember()

    def __getitem__(self, key: str) -> Row:
        found = self._chosen[key]
        row = parse_row(self._line(found.offset) if found.offset >= 0 else self._row_path(key).read_bytes())
        if row is None:
            raise KeyError(key)
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen)

    def __len__(self) -> int:
        return len(self._chosen)

    @functools.cached_property
    def heads(self) -> dict[str, Row]:
        """Rows without options and numbers: key, status, reason, failure, finished, environment, data, files."""
        texts, parse = self._known.texts, functools.cache(json.loads)

        return {
            key: {name: texts[name][found.line] for name in ("key", "status", "reason", "failure", "finished")}
            | {name: parse(texts[name][found.line]) for name in PARTS}
            for key, found in self._chosen.items()
        }

    def numbers(self, keys: Sequence[str]) -> pd.DataFrame:
        """Every metric and cost, a column each, a line per key; NaN where a run has no such number or is not done."""
        lines = [self._chosen[key].line if key in self._chosen else -1 for key in keys]
        return self._known.numbers(lines).reset_index(drop=True)

    def newly_found(self) -> set[str]:
        """Keys of rows in run folders that are not collected as they stand."""
        return {
            key
            for key, found in self._chosen.items()
            if found.offset < 0
            and found.intact
            and (key not in self._collected or self._collected[key].line != found.line)
        }

    def collect(self) -> None:
        """Write rows.jsonl where it lacks a row or holds a damaged one; what was edited stays where it stands.

        Rows that the grid no longer holds stay in the file: a changed study loses nothing.
        """
        if stamp_of(self.path) != self._collected_stamp:  # another process has collected meanwhile
            self._collected = self._find_collected()
            self._chosen = self._choose([*self._chosen])
        new = {key for key in self.newly_found() if key not in self._collected or self._collected[key].intact}
        if not new and not self._damaged:
            return
        offsets: dict[str, int] = {}
        inode = 0

        def write(file: BinaryIO) -> None:
            nonlocal inode
            inode = os.fstat(file.fileno()).st_ino
            for key in sorted(new | self._collected.keys()):
                offsets[key] = file.tell()
                row = self._row_path(key).read_bytes() if key in new else self._line(self._collected[key].offset)
                file.write(_one_line(row) if key in new else row.rstrip(b"\n") + b"\n")

        write_atomically(self.path, write)
        self._open_collected()
        if self._collected_stamp is None or self._collected_stamp[-1] != inode:  # another process has done so again
            self._collected, self._chosen = self._find_collected(), self._choose([*self._chosen])
            return
        for key, offset in offsets.items():
            line = (self._here if key in new else self._collected)[key].line
            self._collected[key] = Found(line, key in new or self._collected[key].intact, offset)
        self._chosen, self._damaged = self._choose([*self._chosen]), 0
        self._remember()

    def _open_collected(self) -> None:
        """Held open: offsets are those of one file, whatever another process replaces it by."""
        self._file: BinaryIO = io.BytesIO()
        self._collected_stamp = None
        with contextlib.suppress(FileNotFoundError):
            self._file = open(self.path, "rb")  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            self._collected_stamp = stamp_of(self._file.fileno())

    def _line(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._file.readline()

    def _find_collected(self) -> dict[str, Found]:
        self._open_collected()
        known, self._damaged = self._known, 0
        if self._collected_stamp is None:
            return {}
        if known.collected == self._collected_stamp:
            offsets = known.places[:, 0].tolist()
            return {
                key: Found(line, True, offset)
                for line, (key, offset) in enumerate(zip(known.texts["key"], offsets, strict=False))
                if offset >= 0
            }
        found, offset = {}, 0
        for text in self._file:
            if (row := self._look(text)) is None:
                self._damaged += 1
            else:
                found[known.texts["key"][row.line]] = Found(row.line, row.intact, offset)
            offset += len(text)
        if self._damaged:
            content = self.path.read_bytes()
            write_atomically(self.path.with_name("rows.jsonl.damaged"), lambda file: file.write(content))
            warn(f"{self.path}: {self._damaged} damaged lines left out (a copy is in rows.jsonl.damaged)")
        return found

    def _find_here(self, keys: Sequence[str]) -> dict[str, Found]:
        known, here = self._known, {}
        stamped = {
            key: (line, tuple(stamp))
            for line, (key, (_, *stamp)) in enumerate(zip(known.texts["key"], known.places.tolist(), strict=False))
            if stamp[-1]
        }
        for key in keys:
            if key not in self._begun or (stamp := stamp_of(f"{self._runs_folder}/{key}/row.json")) is None:
                continue
            if key in stamped and stamped[key][1] == stamp:
                here[key], self._stamps[key] = Found(stamped[key][0], True), stamp
                continue
            path = self._row_path(key)
            try:
                found = self._look(path.read_bytes())
            except FileNotFoundError:
                continue
            if found is None or known.texts["key"][found.line] != key:
                set_aside(path, "is no row of this run")
                continue
            here[key], self._stamps[key] = found, stamp
        return here

    def _look(self, text: bytes) -> Found | None:
        """What a row says, known or not; None where it is none."""
        self._num_looked += 1
        digest = written_checksum(text)
        if digest is not None and digest in self._known.line_of:
            return Found(self._known.line_of[digest], True)
        row = parse_row(text)
        if row is None:
            return None
        said = digest or f"edited {checksum(row)}"
        line = self._known.line_of.get(said)
        return Found(self._known.add(row, said) if line is None else line, digest is not None)

    def _choose(self, keys: Iterable[str]) -> dict[str, Found]:
        return {key: found for key in keys if (found := self._newer(key)) is not None}

    def _newer(self, key: str) -> Found | None:
        """Of a run folder's row and the one collected before, the one that counts: a failure undoes no success."""
        here, collected = self._here.get(key), self._collected.get(key)
        if here is None or collected is None:
            return here or collected
        status = self._known.texts["status"]
        return collected if (status[here.line], status[collected.line]) == ("failed", "done") else here

    def _edited(self) -> str:
        """What was edited and what to do, in one line; empty where nothing was."""
        here = [key for key, found in self._here.items() if not found.intact]
        collected = [key for key, found in self._collected.items() if not found.intact]
        if not here and not collected:
            return ""
        key = (here or collected)[0]
        path, what = (self._row_path(key), "the file") if here else (self.path, "its line")
        others = len(here) + len(collected) - 1
        more = f" (and {others} more)" if others else ""
        return (
            f"{path}: {edited_row(f'{key}{more}')}. "
            f"Restore it, or remove {what} and run it again: python -m benchmark.sweep {self.path.parent.name}"
        )

    def _remember(self) -> None:
        """Save what is known of the intact rows that were found."""
        places: dict[int, list[int]] = {}
        for found in self._collected.values():
            if found.intact:
                places[found.line] = [found.offset, *NO_STAMP]
        for key, found in self._here.items():
            if found.intact:
                places[found.line] = [places.get(found.line, [-1])[0], *self._stamps[key]]
        whole = all(found.intact for found in self._collected.values()) and not self._damaged
        places_RP = np.array([*places.values()], np.int64).reshape(-1, len(PLACES))
        self._known.save([*places], places_RP, self._collected_stamp if whole else None)

    def _row_path(self, key: str) -> Path:
        return self._runs_folder / key / "row.json"


def _one_line(text: bytes) -> bytes:
    """An intact row as it stands in the collected rows."""
    text = text.rstrip()
    return row_line(json.loads(text)) if b"\n" in text else text + b"\n"
