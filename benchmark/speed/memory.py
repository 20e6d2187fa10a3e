"""Bytes of a training step: the most that tensors held, and the least that they have to."""

import itertools
import os

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmark.speed.subject import Driven


def peak_step_bytes(driven: Driven, device: torch.device) -> int:
    """The most that all tensors held during one step. What a library allocates past torch, oneDNN's scratch, is not seen."""
    # Gradients count as new: memory that was taken before the profile has no event of its end.
    driven.optimizer.zero_grad(set_to_none=True)
    resident = _resident_bytes(driven)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        driven.step()
        return resident + torch.cuda.max_memory_allocated(device) - before
    os.environ["KINETO_LOG_LEVEL"] = "99"  # it writes lines about itself to standard error
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        driven.step()
    assert profiled.profiler is not None
    assert profiled.profiler.kineto_results is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return resident + max(itertools.accumulate(event.nbytes() for event in events), default=0)


def needed_bytes(driven: Driven) -> int:
    """Parameters, their gradients, buffers, momentum, and what the forward pass saves for the backward pass."""
    kept = {tensor.untyped_storage().data_ptr() for tensor in _resident(driven)}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in kept:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    batches = [stream.batch(0) for stream in driven.streams]
    x_SBCHW, y_SBK = torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches])
    autocast = torch.autocast(x_SBCHW.device.type, torch.bfloat16, enabled=driven.trainer.recipe.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        loss = driven.trainer.method.loss(driven.network, x_SBCHW, y_SBK, 0.0)
    loss.backward()  # so that storages live, and addresses differ, until all are counted
    return _resident_bytes(driven) + sum(saved.values())


def _resident(driven: Driven) -> list[Tensor]:
    parameters = list(driven.network.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    state = [value for each in driven.optimizer.state.values() for value in each.values() if isinstance(value, Tensor)]
    return [*parameters, *gradients, *driven.network.buffers(), *state]


def _resident_bytes(driven: Driven) -> int:
    """What lives from step to step, shared storages once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in _resident(driven)}
    return sum(storages.values())
