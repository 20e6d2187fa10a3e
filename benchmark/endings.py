"""How a process ended that left no row: `ending.json` in the run's folder, removed when the run is taken up again. No torch."""

import contextlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from benchmark.store import write_atomically

Why = Literal["error", "oom_device", "oom_host", "time_limit", "node_failure", "cancelled"]

TEXTS: dict[str, str] = {
    "error": "error",
    "oom_device": "out of memory on device",
    "oom_host": "out of memory on host",
    "time_limit": "time limit",
    "node_failure": "node failure",
    "cancelled": "cancelled",
}

RETRIES: dict[str, tuple[Why, ...]] = {
    "failed": ("error",),
    "timeout": ("time_limit",),
    "oom": ("oom_device", "oom_host"),
    "node": ("node_failure",),
    "all": get_args(Why),
}
"""What `--retry CLASS` runs again."""


@dataclass(frozen=True)
class Ending:
    why: Why
    detail: str = ""
    final: bool = False
    """Doing the same again would end alike: only `--retry` does."""
    job: str | None = None
    at: str = ""

    def __str__(self) -> str:
        return f"{TEXTS[self.why]}: {self.detail}" if self.detail else TEXTS[self.why]


def write_ending(run_dir: Path, ending: Ending) -> None:
    """Nice to have: where it can't be written, the run is missing without a word."""
    at = ending.at or datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps(asdict(ending) | {"at": at}) + "\n"
    with contextlib.suppress(OSError):
        write_atomically(run_dir / "ending.json", lambda file: file.write(text.encode()), durable=False)


def read_ending(run_dir: Path) -> Ending | None:
    """None where there is none that can be read."""
    try:
        ending = Ending(**json.loads((run_dir / "ending.json").read_text()))
        return ending if ending.why in TEXTS else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def forget_ending(run_dir: Path) -> None:
    with contextlib.suppress(OSError):
        (run_dir / "ending.json").unlink(missing_ok=True)
