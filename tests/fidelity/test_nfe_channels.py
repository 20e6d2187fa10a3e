"""Network Fission Ensembles by whole channels: branches as smaller dense convolutions."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from started_fission import started
from torch import nn

from benchmark.config import Recipe
from benchmark.cost import predict_flops
from benchmark.method import Task
from benchmark.networks.wide_resnet import WideResNet
from methods.masks import KeptConv2d
from methods.nfe import Nfe

BACKBONES = [
    {"name": "wide_resnet", "depth": 10, "width": 1},
    {"name": "resnet", "depth": 18},
    {"name": "resnet", "depth": 50},
    {"name": "preact_resnet"},
]


def convolutions(module: nn.Module) -> dict[str, Any]:
    return {name: conv for name, conv in module.named_modules() if isinstance(conv, nn.Conv2d)}


def ends(shares: tuple[float, ...], branch: int, num_channels: int) -> tuple[int, int]:
    """The first channel of a branch and the one after its last."""
    return tuple(math.floor(num_channels * sum(shares[:n]) + 1e-9) for n in (branch, branch + 1))  # type: ignore[return-value]


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize(
    ("balance", "shares", "paths"),
    [
        (None, [(1,), (1 / 2, 1 / 2), (1 / 2, 1 / 2)], [(0, 0, 0), (0, 1, 1)]),
        ("1:3", [(1,), (1 / 4, 3 / 4), (1 / 4, 3 / 4)], [(0, 0, 0), (0, 1, 1)]),
        (None, [(1,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3)], [(0, 0, 0), (0, 1, 1), (0, 1, 2)]),
    ],
    ids=["two", "1:3", "three"],
)
def test_an_exit_of_channels_is_the_whole_network_without_weights_from_others_channels(
    balance: str | None,
    shares: list[tuple[float, ...]],
    paths: list[tuple[int, ...]],
    sparsity: float,
    task_of: Callable[..., Task],
    batch_of: Callable[..., Any],
    recipe: Recipe,
) -> None:
    """In the whole network channels of other branches are zero everywhere, from their first layer to the head."""
    task = task_of(dtype=torch.float64, width=2)
    method = Nfe(
        num_members=len(paths), grouping="channels", balance=balance, sparsity=sparsity, pruning="random", snip_images=8
    )
    network = started(method, task, recipe).train()
    x_BCHW = batch_of(1, 4, torch.float64)[0][0]
    logits_MBK = network(x_BCHW)
    torch.manual_seed(0)
    whole = task.network(conv=KeptConv2d)
    for n, path in enumerate(paths):
        alone = copy.deepcopy(whole).train()
        with torch.no_grad():
            alone.stem.weight.copy_(network.stem.weight * network.stem.keep)
            for g, branch in enumerate(path):
                num_read = alone.groups[g][0].conv1.in_channels
                narrow = convolutions(network.groups[g][branch])
                for name, conv in convolutions(alone.groups[g]).items():
                    out = ends(shares[g], branch, conv.out_channels)
                    reads_earlier = conv.in_channels == num_read and g > 0
                    read = ends(
                        shares[g - 1] if reads_earlier else shares[g],
                        path[g - 1] if reads_earlier else branch,
                        conv.in_channels,
                    )
                    kept = torch.zeros_like(conv.weight)
                    block = kept[slice(*out), slice(*read)]
                    assert narrow[name].weight.shape == block.shape, name
                    block.copy_(narrow[name].keep)
                    if sparsity == 0:
                        torch.testing.assert_close(narrow[name].weight, conv.weight[slice(*out), slice(*read)])
                    conv.weight.mul_(kept)
            own = slice(*ends(shares[-1], path[-1], alone.head.classifier.in_features))
            alone.head.classifier.weight.zero_()
            alone.head.classifier.weight[:, own] = network.heads[n].classifier.weight
            alone.head.classifier.bias.copy_(network.heads[n].classifier.bias)
        torch.testing.assert_close(logits_MBK[n], alone(x_BCHW))


@pytest.mark.parametrize("num_exits", [1, 2, 3, 4])
@pytest.mark.parametrize("backbone", BACKBONES, ids=["wide_resnet", "resnet18", "resnet50", "preact_resnet"])
def test_channels_of_every_backbone_are_dealt(
    backbone: dict[str, Any], num_exits: int, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    method = Nfe(num_members=num_exits, grouping="channels")
    task = task_of(**backbone)
    network = started(method, task, recipe).eval()
    single = task.network()
    with torch.no_grad():
        assert network(batch_of(1, 2)[0][0]).shape == (num_exits, 2, 4)
    for branches, group in zip(network.groups, single.groups, strict=True):
        for name, conv in convolutions(group).items():
            assert sum(convolutions(branch)[name].out_channels for branch in branches) == conv.out_channels
    assert sum(head.classifier.in_features for head in network.heads) == single.head.classifier.in_features


def macs_of_wrn_28_10(shares: list[tuple[float, ...]], paths: list[tuple[int, ...]]) -> int:
    """Multiply-adds of the convolutions at 32x32, each branch once, from the formula of a convolution."""
    total, branches_seen = 3 * 16 * 9 * 32**2, set()
    for path in paths:
        read = (0, 16)
        for g, branch in enumerate(path):
            channels, area = 160 * 2**g, (32 // 2**g) ** 2
            own = ends(shares[g], branch, channels)
            if (g, branch) not in branches_seen:
                num_read, num_own = read[1] - read[0], own[1] - own[0]
                total += (9 * num_read * num_own + 7 * 9 * num_own**2 + num_read * num_own) * area
                branches_seen.add((g, branch))
            read = own
    return total


@pytest.mark.parametrize(
    ("shares", "paths", "ratio"),
    [
        ([(1,), (1,), (1,)], [(0, 0, 0)], 1.0),
        ([(1,), (1 / 2, 1 / 2), (1 / 2, 1 / 2)], [(0, 0, 0), (0, 1, 1)], 0.672),
        ([(1,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3)], [(0, 0, 0), (0, 1, 1), (0, 1, 2)], 0.620),
    ],
    ids=["one", "two", "three"],
)
def test_channels_of_wrn_28_10_execute_fewer_flops_than_one_network(
    shares: list[tuple[float, ...]], paths: list[tuple[int, ...]], ratio: float, recipe: Recipe
) -> None:
    def network(**parts: Any) -> nn.Module:
        return WideResNet(28, 10).build(3, 100, **parts)

    task, method = Task("", 100, (3, 32, 32), 0, network, lambda _: None), Nfe(len(paths), grouping="channels")
    [stage] = method.stages(task, recipe)
    with torch.device("meta"):
        counter = predict_flops(method, {"main": method.start(stage, task, {}).eval()}, task)
    expected = macs_of_wrn_28_10(shares, paths)
    assert counter.executed == 2 * (expected + 640 * 100), "heads have one head's weights together"
    assert expected / macs_of_wrn_28_10([(1,), (1,), (1,)], [(0, 0, 0)]) == pytest.approx(ratio, abs=0.001)


def test_more_exits_than_channels_is_one_clear_line(task_of: Callable[..., Task], recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=r"^nfe: 64 channels are too few to give each exit some; widen the network$"):
        started(Nfe(num_members=65, grouping="channels"), task_of(), recipe)
