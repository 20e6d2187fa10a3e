"""Masks over convolution weights: which are kept, and how kept ones are dealt to groups.

What is random is drawn on the CPU, so that a run has the same masks on every device.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_weights(network: nn.Module) -> dict[str, Tensor]:
    """Every convolution's weight by the name of its module, shortcuts and stem included."""
    return {name: module.weight for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def random_scores(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A uniform score for each weight, as `rand_like` draws it on the CPU: in the order of memory."""
    return {name: torch.empty_strided(w.shape, w.stride()).uniform_() for name, w in weights.items()}


def keep_highest(scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Boolean masks that keep the highest (1 - sparsity) share of all scores together, to the nearest whole weight."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[flat.topk(round((1 - sparsity) * flat.numel()), sorted=False).indices] = True
    parts = kept.split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def deal(kept: Tensor, num_groups: int) -> Tensor:
    """`deal_in_parts` of equal parts: sizes differ by at most one."""
    return deal_in_parts(kept, (1,) * num_groups)


def deal_in_parts(kept: Tensor, parts: Sequence[int]) -> Tensor:
    """A random partition of the kept positions into groups whose sizes are to one another as `parts`, rounded.

    Boolean mask -> int16 of its shape: the group of each kept position, -1 where nothing is kept.
    """
    positions = kept.flatten().nonzero().squeeze(1)
    order = torch.randperm(len(positions)).to(kept.device)
    groups = torch.full((kept.numel(),), -1, dtype=torch.int16, device=kept.device)
    if len(set(parts)) == 1:  # one position to each group in turn, as results of before there were parts have it
        groups[positions[order]] = (torch.arange(len(positions), device=kept.device) % len(parts)).to(torch.int16)
    else:
        for group, (start, stop) in enumerate(itertools.pairwise(part_bounds(len(positions), parts))):
            groups[positions[order[start:stop]]] = group
    return groups.view_as(kept)


def part_bounds(num: int, parts: Sequence[int]) -> list[int]:
    """Where `num` things in a row are cut into parts: `part_bounds(10, (1, 3)) == [0, 2, 10]`."""
    return [num * cumulated // sum(parts) for cumulated in itertools.accumulate(parts, initial=0)]


class KeptConv2d(nn.Conv2d):
    """Convolution with the kept weights alone. The mask is a buffer, so pruned weights get no gradient either."""

    keep: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, bias: bool):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.register_buffer("keep", torch.ones_like(self.weight, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.keep, self.bias, self.stride, self.padding)


class GradientMaskedConv2d(nn.Conv2d):
    """Convolution with all weights, whose gradient alone is multiplied by a mask of 1, 0 and -1.

    A weight at 0 moves by weight decay alone; one at -1 follows its gradient upwards. A hook on the weight, as in the
    released code of NFE, would be lost when a network is copied.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, bias: bool):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.register_buffer("mask", torch.ones_like(self.weight, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        weight = _GradientMask.apply(self.weight, self.mask)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class _GradientMask(torch.autograd.Function):
    """The identity of its first argument, whose gradient is multiplied by the second."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        [mask] = ctx.saved_tensors
        return gradient * mask, None


@torch.no_grad()
def prune(network: nn.Module, keep: dict[str, Tensor]) -> None:
    """Set the masks of all convolutions, and what is pruned of a `KeptConv2d` to exactly 0.

    There it stays: no gradient, nothing for decay to shrink. A `GradientMaskedConv2d` leaves its weights as they are.
    """
    for name, module in network.named_modules():
        if isinstance(module, KeptConv2d):
            module.keep.copy_(keep[name])
            module.weight.mul_(module.keep)
        elif isinstance(module, GradientMaskedConv2d):
            module.mask.copy_(keep[name])


class MaskedNetwork(nn.Module):
    """A network whose convolution weights are zero wherever their mask is, from the start and after every step."""

    def __init__(self, network: nn.Module, keep: dict[str, Tensor]):
        """`keep`: one boolean mask per convolution, by module name as in `conv_weights`."""
        super().__init__()
        self.network = network
        self.names = list(keep)
        for name, mask in keep.items():
            self.register_buffer(self._buffer_name(name), mask)
        self.zero_pruned()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.network(x_BCHW)

    @torch.no_grad()
    def zero_pruned(self) -> None:
        weights = conv_weights(self.network)
        masks = [self.get_buffer(self._buffer_name(name)) for name in self.names]
        torch._foreach_mul_([weights[name] for name in self.names], masks)

    @staticmethod
    def _buffer_name(name: str) -> str:
        return "keep/" + name.replace(".", "/")
