"""What befalls files: cut off, a bit flipped, another run's, another version's, a folder in their place."""

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from benchmark import checkpoint
from benchmark.rows import row_line

KINDS = (
    "cut",
    "empty",
    "flip",
    "flip",
    "zeros",
    "append",
    "garbage",
    "folder",
    "swap",
    "link",
    "loop",
    "version",
    "value",
)
VALUES = [None, -1, 0, 1, 10**400, 1e308, float("nan"), "", "x", [], {}, True, "\0", "<b>"]


@dataclass(frozen=True)
class Damage:
    kind: str
    at: float
    """Where in the file, as a share of its length."""
    number: int
    value: Any = None

    def strike(self, path: Path, others: Sequence[Path]) -> None:
        """`others`: files of other runs that have the same name."""
        content = path.read_bytes()
        place = min(int(self.at * len(content)), max(0, len(content) - 1))
        new: bytes | None = content
        if self.kind == "cut":
            new = content[:place]
        elif self.kind == "empty":
            new = b""
        elif self.kind == "flip" and content:
            new = content[:place] + bytes([content[place] ^ (1 << self.number % 8)]) + content[place + 1 :]
        elif self.kind == "zeros":
            new = content[:place] + bytes(min(512, len(content) - place)) + content[place + 512 :]
        elif self.kind == "append":
            new = content + b"\0garbage\n" * (1 + self.number % 3)
        elif self.kind == "garbage":
            new = bytes(self.number % 251 for _ in range(100))
        elif self.kind == "swap":
            new = others[self.number % len(others)].read_bytes() if others else content
        elif self.kind in ("version", "value"):
            new = self._of_another_version(path, content)
        path.unlink()
        if self.kind == "folder":
            path.mkdir()
        elif self.kind == "link":
            path.symlink_to(path.with_name("nowhere"))
        elif self.kind == "loop":
            path.symlink_to(path.name)
        else:
            path.write_bytes(new)

    def _of_another_version(self, path: Path, content: bytes) -> bytes:
        """A key removed, or its value another: with a checksum that fits where files have one."""
        if path.suffix == ".state":
            state = torch.load(
                io.BytesIO(content[len(checkpoint.MAGIC) + checkpoint.DIGEST_BYTES :]), weights_only=True
            )
            self._change(state)
            checkpoint.save(path, state)
            return path.read_bytes()
        if path.suffix not in (".json", ".jsonl") and path.stem != "lock":
            return content[:4] + b"\x02" + content[5:]
        lines = content.splitlines()
        line = self.number % max(1, len(lines))
        try:
            told = json.loads(lines[line])
        except (ValueError, IndexError):
            return content
        self._change(told)
        is_row = path.name in ("row.json", "rows.jsonl") and self.kind == "version"
        lines[line] = row_line(told).rstrip() if is_row else json.dumps(told).encode()
        return b"\n".join(lines) + b"\n"

    def _change(self, told: Any) -> None:
        """In place, at any depth."""
        while isinstance(told, dict) and told:
            key = sorted(told)[self.number % len(told)]
            if isinstance(told[key], dict) and told[key] and self.at > 0.3 and key != "optimizer":
                told = told[key]
                continue
            if self.kind == "version":
                del told[key]
            else:
                told[key] = self.value
            return


damages = st.builds(
    Damage, st.sampled_from(KINDS), st.floats(0, 1, exclude_max=True), st.integers(0, 1000), st.sampled_from(VALUES)
)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
