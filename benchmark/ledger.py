"""What a run has spent and seen so far; part of every checkpoint."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.files import write_atomically


@dataclass
class Ledger:
    seconds: dict[str, float] = field(default_factory=dict)
    joules: float = 0.0
    training_flops: int = 0
    training_flops_nonzero: int = 0
    images_seen: int = 0
    epoch_loss: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry per epoch: stage, epoch, mean loss, accuracy on monitored images, training seconds so far."""

    def write_history(self, folder: Path) -> None:
        """Raises OSError."""
        lines = "".join(json.dumps(entry) + "\n" for entry in self.history)
        write_atomically(folder / "history.jsonl", lambda file: file.write(lines.encode()))
