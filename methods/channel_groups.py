"""Fission by whole channels: the branches of a network as smaller dense convolutions.

In groups of layers that are split, each branch has its own output channels and reads its own input channels alone: where
the group before is common to all, all of them. So the weights between one branch's channels and another's, (N - 1) / N
of those in a group with N equal branches, vanish, with their arithmetic: parameters and FLOPs are fewer, not dealt.
Channels start with the values they have in the whole network. They are cut in order, as all are drawn alike.
"""

import copy
import itertools
from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor, nn

from benchmark.networks.backbone import Backbone
from methods.fission import FissionNetwork, Parts, before
from methods.masks import KeptConv2d

Span = tuple[Fraction, Fraction]
"""From where to where the channels of a branch reach, as shares of all."""

WHOLE: Span = (Fraction(0), Fraction(1))


def spans(parts: Parts) -> list[Span]:
    """`spans((1, 3)) == [(0, 1/4), (1/4, 1)]`."""
    ends = [Fraction(end, sum(parts)) for end in itertools.accumulate(parts, initial=0)]
    return list(itertools.pairwise(ends))


def split_channels(networks: Sequence[Backbone], parts: Sequence[Parts]) -> FissionNetwork:
    """Branches of the first network, by whole channels, with a head of each network.

    Raises ValueError where a layer has fewer channels than branches.
    """
    groups, read = [], [WHOLE]
    for group, parts_of_group in zip(networks[0].groups, parts, strict=True):
        own = spans(parts_of_group)
        groups.append([_narrowed(group, own[i], read[before(i, read)]) for i in range(len(own))])
        read = own
    heads = [network.head for network in networks]
    for head, span in zip(heads, read, strict=True):
        _narrow_head(head, span)
    return FissionNetwork(networks[0].stem, groups, heads)


def _narrowed(group: nn.Module, own: Span, read: Span) -> nn.Module:
    """A copy of a group of layers with the channels `own` of its own layers and `read` of those that it reads."""
    group = copy.deepcopy(group)
    if own == read == WHOLE:
        return group
    convs = [module for module in group.modules() if isinstance(module, KeptConv2d)]
    num_read = convs[0].in_channels
    # Which channels are those of the group before is told by their number.
    assert all(conv.out_channels != num_read for conv in convs), "a split group changes the number of channels"

    def cut(num_channels: int) -> slice:
        return _slice(num_channels, read if num_channels == num_read else own)

    for module in group.modules():
        if isinstance(module, KeptConv2d):
            _narrow_conv(module, cut(module.out_channels), cut(module.in_channels))
        elif isinstance(module, nn.BatchNorm2d):
            _narrow_norm(module, cut(module.num_features))
    return group


def _narrow_head(head: nn.Module, read: Span) -> None:
    """Leave a head the channels that it reads; it has as many outputs as before."""
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            _narrow_norm(module, _slice(module.num_features, read))
        elif isinstance(module, nn.Linear):
            module.weight = _cut(module.weight, slice(None), _slice(module.in_features, read))
            module.in_features = module.weight.shape[1]


def _slice(num_channels: int, span: Span) -> slice:
    start, stop = (int(num_channels * end) for end in span)
    if start == stop:
        raise ValueError(f"nfe: {num_channels} channels are too few to give each exit some; widen the network")
    return slice(start, stop)


def _narrow_conv(conv: KeptConv2d, outputs: slice, inputs: slice) -> None:
    conv.weight, conv.keep = _cut(conv.weight, outputs, inputs), conv.keep[outputs, inputs].clone()
    conv.out_channels, conv.in_channels = conv.weight.shape[:2]
    if conv.bias is not None:
        conv.bias = _cut(conv.bias, outputs)


def _narrow_norm(norm: nn.BatchNorm2d, channels: slice) -> None:
    norm.weight, norm.bias = _cut(norm.weight, channels), _cut(norm.bias, channels)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean, norm.running_var = norm.running_mean[channels].clone(), norm.running_var[channels].clone()
    norm.num_features = len(norm.weight)


def _cut(parameter: Tensor, *part: slice) -> nn.Parameter:
    """A parameter of its own, in the memory format of the whole one."""
    return nn.Parameter(parameter.detach()[part].clone())
