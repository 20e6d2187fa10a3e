"""A network's forward and backward passes as CUDA graphs: one launch in place of hundreds.

With small batches a GPU has done a kernel before Python has launched the next one: ResNet-18 on 128 images of 32x32 takes
3 ms of kernels and 9 ms of launches (docs/speed.md). A graph replays the very kernels that it has recorded, so nothing
but time changes.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmark.files import warn

WARM_UP_CALLS = 3
"""Of a network before its kernels are recorded, so that cuDNN has chosen them (torch.cuda.make_graphed_callables)."""


class Recorded:
    """Stands for a network's calls in training: recorded once for each shape of its inputs, replayed from then on.

    Calls in evaluation, without gradients, or before the last call's gradient was asked for run as they always do; so does
    everything after a network that can't be recorded, which is said in one line. A replay overwrites the gradients of the
    one before, so each step takes one backward pass and starts from no gradients.
    """

    def __init__(self, network: nn.Module):
        self._network = network
        self._call: Callable[..., Any] = network._compiled_call_impl or network._call_impl
        self._passes: dict[object, Callable[..., Any]] = {}
        self._is_in_flight = False

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        alone = named or not all(isinstance(x, Tensor) and not x.requires_grad for x in inputs)
        if alone or self._is_in_flight or not (self._network.training and torch.is_grad_enabled()):
            return self._call(*inputs, **named)
        shapes = tuple((x.shape, x.stride(), x.dtype) for x in inputs)
        if shapes not in self._passes:
            self._passes[shapes] = self._record(inputs)
        outputs = self._passes[shapes](*inputs)
        if self._passes[shapes] is not self._call:
            self._is_in_flight = True
            for output in pytree.tree_leaves(outputs):
                if output.requires_grad:
                    output.register_hook(self._land)
        return outputs

    def _land(self, _: Tensor) -> None:
        self._is_in_flight = False

    def _record(self, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
        """The recorded passes, or the network's own call where they can't be. Buffers stay as they are."""
        passes = _Passes(self._network, self._call)
        before = [buffer.clone() for buffer in self._network.buffers()]
        # What is cast once and kept would be cast in no replay.
        autocast = torch.autocast(
            "cuda",
            torch.get_autocast_dtype("cuda"),
            enabled=torch.is_autocast_enabled("cuda"),
            cache_enabled=False,
        )
        try:
            with autocast:
                torch.cuda.make_graphed_callables(passes, inputs, WARM_UP_CALLS, allow_unused_input=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            warn(f"a network can't be recorded and is trained unrecorded: {' '.join(str(error).split())[:200]}")
            return self._call
        finally:
            for buffer, kept in zip(self._network.buffers(), before, strict=True):
                buffer.copy_(kept)
        # The recorded passes hold gradient accumulators of the stream they were recorded on, which torch warns of.
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream does not match")
        return passes


class _Passes(nn.Module):
    """A network under another name, for what replaces a module's `forward`: copies of the network are to keep theirs."""

    def __init__(self, network: nn.Module, call: Callable[..., Any]):
        super().__init__()
        self.network = network
        self._call_network = call

    def forward(self, *inputs: Tensor) -> Any:
        return self._call_network(*inputs)
