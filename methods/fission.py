"""Networks of branches and exits: what Network Fission Ensembles and their controls are built of.

Branches per group of layers, for N exits: 1 in the first, then one more per group up to N, and N in the last. With three
groups that is the tree of the NFE paper: N = 2: 1, 2, 2; N = 3: 1, 2, 3 (exit 1 leaves first; exits 2 and 3 part last).
More exits than groups, which the paper leaves open, part in the last group.

Branches are made from one network per exit, each drawn by itself, so that what they don't have in common starts apart.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmark.networks.backbone import Backbone
from methods.masks import GradientMaskedConv2d, KeptConv2d, deal_in_parts

Layer = TypeVar("Layer", bound=nn.Module)
Parts = Sequence[int]
"""How large things are to one another: (1, 1, 2) are two quarters and a half."""


class FissionNetwork(nn.Module):
    """x_BCHW -> logits_MBK of M exits. Branch i goes on from the branch of its own number, or from the last there is."""

    def __init__(self, stem: nn.Module, groups: Iterable[Iterable[nn.Module]], heads: Iterable[nn.Module]):
        """`groups`: the branches of each group of layers. `heads`: one per exit."""
        super().__init__()
        self.stem = stem
        self.groups = nn.ModuleList(nn.ModuleList(branches) for branches in groups)
        self.heads = nn.ModuleList(heads)

    @classmethod
    def of(cls, networks: Sequence[Backbone], widths: Sequence[int]) -> "FissionNetwork":
        """The first network's stem, as many branches of each group of layers as `widths` says, and all heads."""
        groups = [[network.groups[g] for network in networks[:width]] for g, width in enumerate(widths)]
        return cls(networks[0].stem, groups, [network.head for network in networks])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        features = [self.stem(x_BCHW)]
        for branches in self.groups:
            assert isinstance(branches, nn.ModuleList)
            features = [branch(features[before(i, features)]) for i, branch in enumerate(branches)]
        return torch.stack([head(features[before(m, features)]) for m, head in enumerate(self.heads)])


def before(branch: int, earlier: Sequence[object]) -> int:
    """Which branch of the group before a branch, or a head, goes on from."""
    return min(branch, len(earlier) - 1)


def branch_parts(exit_parts: Parts, num_groups: int) -> list[Parts]:
    """How large the branches of each group of layers are to one another, from the exits' parts.

    A branch on the way to several exits gets the mean of their parts, so that equal exits have equal branches everywhere:
    `branch_parts((1, 1, 2), 3) == [(1,), (2, 3), (1, 1, 2)]`.
    """
    num_exits = len(exit_parts)
    widths = [min(g + 1, num_exits) for g in range(num_groups - 1)] + [num_exits]
    parts: list[Parts] = []
    for width in widths:
        own, common = exit_parts[: width - 1], exit_parts[width - 1 :]
        scaled = [part * len(common) for part in own] + [sum(common)]
        parts.append(tuple(part // math.gcd(*scaled) for part in scaled))
    return parts


def split_weights(branches: nn.Module, parts: Parts, split_pointwise: bool) -> None:
    """Give branches the first one's convolution weights in common, stored once, and each its part of the kept ones.

    Without `split_pointwise` each has 1x1 convolutions of its own, whole.
    """
    for convs in _alike(branches, KeptConv2d):
        if split_pointwise or not is_pointwise(convs[0]):
            for conv, mask in zip(convs, partition_masks(convs[0].keep, parts), strict=True):
                conv.weight = convs[0].weight
                conv.keep.copy_(mask)


def split_gradients(branches: nn.Module, parts: Parts, split_pointwise: bool, independent: bool) -> None:
    """Let branches, each with all weights of its own, learn by their parts of the first one's kept gradients alone."""
    for convs in _alike(branches, GradientMaskedConv2d):
        if split_pointwise or not is_pointwise(convs[0]):
            kept = convs[0].mask != 0
            masks = independent_masks(kept, len(parts)) if independent else partition_masks(kept, parts)
            for conv, mask in zip(convs, masks, strict=True):
                conv.mask.copy_(mask)


def _alike(branches: nn.Module, kind: type[Layer]) -> list[list[Layer]]:
    """Layers of a kind that stand in the same place of each branch in a list of them."""
    layers = [[module for module in branch.modules() if isinstance(module, kind)] for branch in branches.children()]
    return [list(same) for same in zip(*layers, strict=True)]


def is_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1)


def partition_masks(kept: Tensor, parts: Parts) -> list[Tensor]:
    """Boolean masks of the groups that the kept positions are dealt to at random."""
    dealt = deal_in_parts(kept, parts)
    return [dealt == i for i in range(len(parts))]


def independent_masks(kept: Tensor, num_groups: int) -> list[Tensor]:
    """One to three groups as NFE's released code draws them, position by position, int8.

    Two: 1 - m and m with P(m) = 1/2 (hjdw2/NFE:train_exit1.py:89-97), a partition of random sizes. Three: 1 - a, a - b
    and b with independent P(a) = 2/3, P(b) = 1/3 (hjdw2/NFE:train_exit12.py:98-108). That is none: the first and the last
    both hold 1/9 of the kept positions, where the second has -1 and its weights follow their gradient upwards.
    """

    def draw(probability: float) -> Tensor:
        return (torch.rand(kept.shape) < probability).to(kept.device, torch.int8)

    whole = kept.to(torch.int8)
    if num_groups == 1:
        return [whole]
    if num_groups == 2:
        half = draw(1 / 2)
        return [whole * (1 - half), whole * half]
    assert num_groups == 3, "the released code has two or three exits"
    a, b = draw(2 / 3), draw(1 / 3)
    return [whole * (1 - a), whole * (a - b), whole * b]


@torch.no_grad()
def zero_pruned(network: nn.Module) -> None:
    """Set weights that no gradient reaches to 0, which the released code means to do in a line that it never runs."""
    for module in network.modules():
        if isinstance(module, GradientMaskedConv2d):
            module.weight.mul_(module.mask != 0)
