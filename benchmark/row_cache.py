"""What rows say, known by their checksums, and remembered in one file so that no row is read twice. No torch.

The file is the SHA-256 of the rest, and a Parquet table: checksums of its pages alone would not cover the names of columns.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.files import Stamp, stamp_of, write_atomically
from benchmark.rows import Row

DIGEST_BYTES = 32
FORMAT = 2
"""Of the file. Raise it with any change of what stands in it."""

TEXTS = ("key", "checksum", "status", "reason", "failure", "finished", "environment", "data", "files")
"""What is known of a row besides its numbers, as text; PARTS as JSON."""

PARTS = ("environment", "data", "files")

PLACES = ("offset", "mtime_ns", "ctime_ns", "size", "inode")
"""Where the row stands: its offset in the collected rows or -1, and the stamp of its file in the run's folder or zeros."""

NO_STAMP: Stamp = (0, 0, 0, 0)


class KnownRows:
    """Texts and numbers of rows, by line: first those of the cache, then what was added."""

    def __init__(self, path: Path) -> None:
        """Empty where the cache is missing, damaged or of another format."""
        self.path = path
        self.collected: Stamp | None = None
        """Stamp of the collected rows that the cached offsets are for."""
        self.texts: dict[str, list[str]] = {name: [] for name in TEXTS}
        self.places = np.empty((0, len(PLACES)), np.int64)
        self._cached = pd.DataFrame()
        with contextlib.suppress(Exception):  # pyarrow raises its own, OSError and others
            self._load()
        self.num_cached = len(self.texts["key"])
        self.line_of = {digest: line for line, digest in enumerate(self.texts["checksum"])}
        self._signatures: dict[tuple[tuple[str, ...], ...], tuple[list[int], list[np.ndarray]]] = {}

    def add(self, row: Row, digest: str) -> int:
        """The line of a row that was not known."""
        texts = {name: row.get(name) for name in TEXTS} | {"checksum": digest}
        for name, text in texts.items():
            told = json.dumps(text, sort_keys=True) if name in PARTS else text
            self.texts[name].append("" if told is None else str(told))
        line = self.line_of[digest] = len(self.texts["key"]) - 1
        parts = (row["metrics"], row["costs"], row["measured"]) if row["status"] == "done" else ()
        lines, values = self._signatures.setdefault(tuple(map(tuple, parts)), ([], []))
        lines.append(line)
        values.append(np.array([number for part in parts for number in part.values()], np.float64))
        return line

    @property
    def num_added(self) -> int:
        return len(self.texts["key"]) - self.num_cached

    def numbers(self, lines: Sequence[int]) -> pd.DataFrame:
        """Every metric and cost of these lines, one column each in order of their names; what is not finite is NaN."""
        frames = [self._cached] if len(self._cached) else []
        for names, (added, values) in self._signatures.items():
            if names:
                titles = [
                    prefix + name
                    for prefix, part in zip(("", "costs/", "measured/"), names, strict=True)
                    for name in part
                ]
                values_RC = np.stack(values)
                values_RC[~np.isfinite(values_RC)] = np.nan
                frames.append(pd.DataFrame(values_RC, index=added, columns=titles))
        together = pd.concat(frames) if len(frames) > 1 else frames[0] if frames else pd.DataFrame()
        columns = sorted(name for name in set(together.columns) if name not in (*TEXTS, *PLACES))
        return together.reindex(index=list(lines), columns=columns)

    def save(self, lines: Sequence[int], places_RP: np.ndarray, collected: Stamp | None) -> None:
        """Remember these lines, and where they stand. A folder that can't be written has no cache."""
        if not self.path.parent.is_dir():
            return
        columns: dict[str, Any] = {name: [self.texts[name][line] for line in lines] for name in TEXTS}
        columns |= {name: places_RP[:, index] for index, name in enumerate(PLACES)}
        numbers = self.numbers(lines)
        columns |= {str(name): numbers[name].to_numpy() for name in numbers}
        said = json.dumps({"format": FORMAT, "collected": collected})
        table = pa.table(columns).replace_schema_metadata({b"rows": said.encode()})
        buffer = io.BytesIO()
        pq.write_table(
            table, buffer, compression="none", use_dictionary=list(TEXTS[2:]), write_statistics=False
        )  # fmt: skip
        payload = buffer.getbuffer()
        digest = hashlib.sha256(payload).digest()
        with contextlib.suppress(OSError):
            write_atomically(self.path, lambda file: file.writelines([digest, payload]), durable=False)

    def _load(self) -> None:
        if stamp_of(self.path) is None:
            return
        content = self.path.read_bytes()
        digest, payload = content[:DIGEST_BYTES], memoryview(content)[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return
        table = pq.read_table(pa.BufferReader(payload))
        said = json.loads(table.schema.metadata[b"rows"])
        if said["format"] != FORMAT:
            return
        texts = {name: table[name].to_pylist() for name in TEXTS}
        places = np.stack([table[name].to_numpy() for name in PLACES], axis=1)
        numbers = table.drop_columns([*TEXTS, *PLACES]).to_pandas()
        self.collected = tuple(said["collected"]) if said["collected"] else None
        self.texts, self.places, self._cached = texts, places, numbers
