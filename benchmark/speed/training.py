"""Time and memory of training steps, and how well arithmetic is used."""

import dataclasses
from collections.abc import Callable, Iterator

import torch

from benchmark import cost
from benchmark.speed.bare_loop import BareLoop
from benchmark.speed.bench import Bench, Row
from benchmark.speed.memory import needed_bytes, peak_step_bytes
from benchmark.speed.subject import repeated, seconds_per_looped_step
from benchmark.timing import Spread, seconds_of, times_as_long

BARE = "bare loop"
MATRIX_SIZE = {"cpu": 1024, "cuda": 8192}


def steps(bench: Bench) -> Iterator[Row]:
    """A step of each kind of stage beside the bare loop's, and the device's rate of plain matrix products."""
    bare, matrices = bench.bare_loop(), MatrixProduct(bench.device, bench.bf16)
    ways: dict[str, Callable[[], object]] = {BARE: repeated(bare.step, bench.steps)}
    ways |= {driven.name: repeated(driven.step, bench.steps) for driven in bench.driven}
    seconds = bench.in_turns(ways | {"matrix product": matrices.multiply})
    rate = Spread.of(seconds.pop("matrix product")).inverse(matrices.flops)
    bare_flops = _forward_flops(bare)
    flops = {BARE: bare_flops} | {driven.name: driven.flops for driven in bench.driven}
    images = {BARE: bare.batch_size} | {d.name: d.stage.batch_size * len(d.streams) for d in bench.driven}
    for name, spent in seconds.items():
        per_step = Spread.of(spent) * (1 / bench.steps)
        times = times_as_long(spent, seconds[BARE])
        yield {
            "name": name,
            "ms_per_step": per_step * 1000,
            "images_per_second": per_step.inverse(images[name]),
            "time_of_bare": times,
            "flops_of_bare": flops[name] / bare_flops,
            "time_by_flops": times * (bare_flops / flops[name]),
            "share_of_matrix_rate": 3 * flops[name] / per_step.median / rate.median,
        }
    yield {"name": "matrix product", "teraflops_per_second": rate * 1e-12}


def runs(measured: list[Row], bench: Bench) -> Iterator[Row]:
    """Whole runs of the study's epochs beside one of the bare loop, from their steps: without evaluation, checkpoints."""
    seconds = {row["name"]: row["ms_per_step"].median / 1000 for row in measured if "ms_per_step" in row}
    first = bench.subjects[0]
    bare_seconds = first.trainer.stages[0].num_steps(first.num_images) * seconds[BARE]
    for subject in bench.subjects:
        spent = sum(driven.num_steps * seconds[driven.name] for driven in subject.driven)
        flops = sum(3 * driven.num_steps * driven.flops for driven in subject.driven)
        yield {"name": subject.name, "seconds": spent, "time_of_bare": spent / bare_seconds, "flops": flops}


def loop(bench: Bench) -> Iterator[Row]:
    """A step of `single` with all that the trainer's loop does around it, beside the bare loop's."""
    first = bench.subjects[0]
    single = dataclasses.replace(first.run, label="single", method="single", options={})
    several = 4 * bench.steps
    bare = bench.bare_loop()
    repeated(bare.step, 2)()
    ours, theirs = [], []
    for _ in range(bench.rounds):
        theirs.append(seconds_of(repeated(bare.step, several), bench.now) / several)
        ours.append(seconds_per_looped_step(single, first.data, bench.device, several, bench.now))
    yield {"name": BARE, "ms_per_step": Spread.of(theirs) * 1000, "time_of_bare": 1.0}
    yield {
        "name": "single, Trainer.fit",
        "ms_per_step": Spread.of(ours) * 1000,
        "time_of_bare": times_as_long(ours, theirs),
    }


def memory(bench: Bench) -> Iterator[Row]:
    """The most that tensors hold during a step, beside what parameters, momentum and activations must take."""
    for driven in bench.driven:
        driven.step()  # momentum and gradients are there from now on
        peak, needed = peak_step_bytes(driven, bench.device), needed_bytes(driven)
        yield {
            "name": driven.name,
            "peak_mib": peak / 2**20,
            "needed_mib": needed / 2**20,
            "times_needed": peak / needed,
        }


class MatrixProduct:
    """A square product in the arithmetic of training, as large as a device needs to show its rate."""

    def __init__(self, device: torch.device, bf16: bool):
        self.size = MATRIX_SIZE[device.type]
        self.left = torch.randn(self.size, self.size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
        self.right = torch.randn_like(self.left)

    @property
    def flops(self) -> int:
        return 2 * self.size**3

    def multiply(self) -> None:
        torch.mm(self.left, self.right)


@torch.no_grad()
def _forward_flops(bare: BareLoop) -> int:
    shape = bare.batch_size, bare.channels, bare.height, bare.width
    with cost.FlopCounter() as counter:
        bare.network(torch.zeros(shape, device=bare.device))
    return counter.executed
