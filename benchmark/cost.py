"""What a run costs: seconds by what they were spent on, energy, parameters, FLOPs, latency, throughput, memory.

FLOPs are 2 per multiply-add of convolutions and matrix products; normalisation and other element-wise work counts as
nothing, as in torch.utils.flop_counter. Only forward passes are counted (a backward counter is wrong for grouped
convolutions), and training is three forwards, for every method.
"""

import copy
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmark.energy import energy_meter
from benchmark.method import Done, Method, Stage, Task

WEIGHT_ARGUMENT = {"convolution": 1, "_convolution": 1, "addmm": 2, "mm": 1}
"""Which argument of an operator is the layer's weight, whose zeros need no arithmetic."""


class Clock:
    """Seconds by section, and joules of training where the device tells them. On a GPU a section ends when it has done
    its work."""

    def __init__(self, device: torch.device, seconds: dict[str, float] | None = None, joules: float = 0.0):
        self.device = device
        self.seconds = {"train": 0.0, "compile": 0.0, "evaluation": 0.0, "checkpoint": 0.0} | (seconds or {})
        self.joules = joules
        self.meter = energy_meter(device)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        start, joules = self._now(), self._used(name)
        try:
            yield
        finally:
            self.seconds[name] += self._now() - start
            self.joules += self._used(name) - joules

    def _used(self, name: str) -> float:
        return self.meter() if self.meter is not None and name == "train" else 0.0

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class FlopCounter(TorchDispatchMode):
    """Counts the forward passes inside it: `executed` as dense arithmetic, `nonzero` by each layer's nonzero weights.

    `executed` asks for shapes alone, so that it is known on the meta device too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.executed = 0
        self._by_weights: list[tuple[int, int | Tensor, int]] = []
        """FLOPs, nonzero weights and weights of each operator; 1 of 1 where none of its arguments is a weight."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operator = func._overloadpacket
        name = operator.__name__
        in_backward = torch._C._current_autograd_node() is not None
        if operator in flop_registry and not in_backward:
            flops = flop_registry[operator](*args, **(kwargs or {}), out_val=result)
            weight = args[WEIGHT_ARGUMENT[name]] if name in WEIGHT_ARGUMENT else None
            self.executed += flops
            nonzero, size = (1, 1) if weight is None else (torch.count_nonzero(weight), weight.numel())
            self._by_weights.append((flops, nonzero, size))
        return result

    @cached_property
    def nonzero(self) -> float:
        """To be read when all is counted: reading waits for a GPU, so it is done once."""
        return sum((flops * (int(nonzero) / size) for flops, nonzero, size in self._by_weights), 0.0)


@torch.no_grad()
def loss_flops(method: Method, network: nn.Module, task: Task, stage: Stage) -> FlopCounter:
    """Forward FLOPs of one training step, on a copy of the network and blank images."""
    probe = copy.deepcopy(network).train()
    x, y = _blank(task, stage, next(network.parameters()).device)
    with _undisturbed(x.device), FlopCounter() as counter:
        method.loss(probe, x, y, 0.0)
    return counter


def _blank(task: Task, stage: Stage, device: torch.device) -> tuple[Tensor, Tensor]:
    """A step's worth of black images, x_SBCHW, and targets that give all classes the same share, y_SBK."""
    x_SBCHW = torch.zeros(len(stage.streams), stage.batch_size, *task.image_shape, device=device)
    return x_SBCHW, torch.full((*x_SBCHW.shape[:2], task.num_classes), 1 / task.num_classes, device=device)


def _undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """Draws inside leave generators as they were. Forking a GPU's generator would start CUDA where it isn't used."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@torch.no_grad()
def member_loss_weight(method: Method, network: nn.Module, task: Task, stage: Stage, num_members: int) -> float:
    """How much a member's loss counts among those of the members that a stage trains: 1 in a sum, 1/M in a mean.

    Measured: with all parameters 0 every member gives every class the same probability and loses log K on blank targets.
    """
    ignorant = copy.deepcopy(network).train()
    for parameter in ignorant.parameters():
        parameter.zero_()
    x, y = _blank(task, stage, next(ignorant.parameters()).device)
    with _undisturbed(x.device):
        weight = method.loss(ignorant, x, y, 0.0).item() / math.log(task.num_classes) / num_members
    return round(weight, 5)  # float32, of draws that differ where a run was interrupted


@torch.no_grad()
def predict_flops(method: Method, done: Done, task: Task) -> FlopCounter:
    """Forward FLOPs of one prediction of one image."""
    device = next(next(iter(done.values())).parameters()).device
    with FlopCounter() as counter:
        method.predict(done, torch.zeros(1, *task.image_shape, device=device))
    return counter


@torch.no_grad()
def count_parameters(method: Method, done: Done, task: Task) -> dict[str, int]:
    """Parameters, and nonzero ones, of the networks that a prediction runs (a parent that only its children need is none)."""
    used: list[nn.Module] = []
    hooks = [net.register_forward_pre_hook(lambda module, _: used.append(module)) for net in done.values()]
    predict_flops(method, done, task)
    for hook in hooks:
        hook.remove()
    parameters = {id(p): p for network in used for p in network.parameters()}.values()
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzero_parameters": sum(int(torch.count_nonzero(p)) for p in parameters),
    }


def count_undecayed(method: Method, network: nn.Module, stage: Stage) -> int:
    """Parameters of a stage's network that weight decay leaves alone."""
    groups = method.param_groups(stage, network)
    decays = [stage.weight_decay if group.weight_decay is None else group.weight_decay for group in groups]
    return sum(p.numel() for group, decay in zip(groups, decays, strict=True) if not decay for p in group.params)


@torch.no_grad()
def measure_prediction(predict: Callable[[Tensor], object], x_NCHW: Tensor) -> dict[str, float]:
    """Median latency of one image in milliseconds, and images per second in batches of 256, data already on the device."""
    batch = torch.cat([x_NCHW] * -(-256 // len(x_NCHW)))[:256]  # in the memory format that it has
    return {
        "latency_ms_batch1": 1000 * _median_seconds(predict, batch[:1]),
        "throughput_batch256": 256 / _median_seconds(predict, batch),
    }


def _median_seconds(predict: Callable[[Tensor], object], x_BCHW: Tensor) -> float:
    """Median over at least 5 calls and 0.3 s, after two calls of warm-up."""
    for _ in range(2):
        predict(x_BCHW)
    calls: list[float] = []
    while len(calls) < 5 or sum(calls) < 0.3:
        clock = Clock(x_BCHW.device)
        with clock.section("evaluation"):
            predict(x_BCHW)
        calls.append(clock.seconds["evaluation"])
    return statistics.median(calls)


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Most memory held so far: on a GPU by its tensors, on a CPU by the whole process (each run has its own)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
