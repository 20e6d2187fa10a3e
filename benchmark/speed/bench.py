"""What every section of `python -m benchmark.speed` measures, how often and by which clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmark.compiling import prepare
from benchmark.speed.bare_loop import BareLoop
from benchmark.speed.subject import Driven, Subject
from benchmark.timing import in_turns

Row = dict[str, Any]
"""`name`, and by quantity a Spread or a plain number."""


@dataclass(frozen=True)
class Bench:
    """The subjects and the settings of a measurement."""

    subjects: list[Subject]
    device: torch.device
    rounds: int
    steps: int
    """training steps of a turn"""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu: processor time of this process, which neighbours on a shared machine don't change"""

    @property
    def bf16(self) -> bool:
        return self.subjects[0].run.recipe.precision == "bf16"

    @property
    def driven(self) -> list[Driven]:
        return [driven for subject in self.subjects for driven in subject.driven]

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.clock == "cpu" else time.perf_counter()

    def in_turns(self, ways: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        return in_turns(ways, self.rounds, self.now)

    def bare_loop(self) -> BareLoop:
        subject = self.subjects[0]
        torch.manual_seed(0)
        train, batch_size = subject.data.train, subject.run.recipe.batch_size
        network = subject.trainer.task.network()
        loop = BareLoop(network, train.images_NHWC, train.labels_N, batch_size, self.device, self.bf16)
        prepare(loop.network, subject.run.recipe, self.device)
        return loop
