"""What a run has spent and seen so far; part of every checkpoint."""

from dataclasses import dataclass, field
from typing import Any


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
