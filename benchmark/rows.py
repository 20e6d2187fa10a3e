"""One row: what became of a run, as one line of JSON that begins with a checksum of the rest. No torch.

The checksum is the start of the SHA-256 of the row without it, written by json.dumps with sorted keys and no blanks. In a
line as it was written the rest is just that text, so that it is verified without being parsed.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

Row = dict[str, Any]

ROW_PARTS = {
    **dict.fromkeys(("key", "method", "status"), str),
    **dict.fromkeys(("options", "task", "recipe", "metrics", "costs", "measured", "data", "environment"), dict),
}
"""What a file must hold to be taken for a row."""

CHECKED_FILES = ("examples.parquet", "history.jsonl")
"""What a finished run leaves beside its row, which bears their checksums under `files`. Rows of earlier versions don't."""

LARGEST = 1e30
"""No metric or cost is larger; what is, was damaged."""

DIGITS = 32
WRITTEN = re.compile(rb'\{"checksum":"([0-9a-f]{%d})",' % DIGITS)
"""How a line begins: no key of a row sorts before `checksum`."""


def row_line(row: Row) -> bytes:
    """The line to write, with a fresh checksum."""
    text = _canonical(row)
    return b'{"checksum":"%s",%s\n' % (_digest(text).encode(), text[1:])


def checksum(row: Row) -> str:
    """Of what a row says, whatever checksum it bears."""
    return _digest(_canonical(row))


def written_checksum(text: bytes) -> str | None:
    """The checksum of a row that is as it was written; None where it was changed since, or never had one."""
    begun = WRITTEN.match(text)
    if begun is not None:
        found = begun[1].decode()
        if _digest(b"{" + text[begun.end() :].rstrip()) == found:
            return found
    try:  # perhaps with other blanks or line ends, which change nothing
        row = json.loads(text)
        return row["checksum"] if row["checksum"] == checksum(row) else None
    except (ValueError, RecursionError, TypeError, KeyError):
        return None


def edited_row(key: str) -> str:
    """What is wrong with a row whose checksum is not its own."""
    return f"the row of {key} is not as its run wrote it: its checksum is missing or that of other content"


def file_checksum(content: bytes) -> str:
    """As a row bears it under `files`."""
    return _digest(content)


def is_as_written(content: bytes, checksums: Mapping[str, str] | None, name: str) -> bool:
    """Whether a file is what its row says, as far as the row says it."""
    known = (checksums or {}).get(name)
    return known is None or known == file_checksum(content)


def parse_row(text: str | bytes) -> Row | None:
    """The row that a text holds, or None. Does not look at its checksum."""
    try:
        row = _parse(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not all(isinstance(row.get(part), kind) for part, kind in ROW_PARTS.items()):
        return None
    if not isinstance(row.get("files", {}), dict):
        return None
    numbers = [*row["metrics"].values(), *row["costs"].values(), *row["measured"].values()]
    if not {*map(type, numbers)} <= {int, float}:
        return None
    largest = max(map(abs, numbers), default=0)
    smallest_cost = min([*row["costs"].values(), *row["measured"].values()], default=0)
    if (largest > LARGEST and largest != math.inf) or smallest_cost < 0:
        return None
    is_whole = row["status"] in ("failed", "skipped") or (
        row["status"] == "done" and all((row["metrics"], row["costs"]))
    )
    return row if is_whole else None


def _parse(text: str | bytes) -> Any:
    """As json.loads, in a fifth of its time; whole numbers of 64 bits and more become floats."""
    try:
        return orjson.loads(text)
    except ValueError:  # json also takes NaN, which rows of earlier versions may hold
        return json.loads(text)


def _canonical(row: Row) -> bytes:
    content = {part: value for part, value in row.items() if part != "checksum"}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:DIGITS]
