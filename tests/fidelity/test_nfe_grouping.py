"""How Network Fission Ensembles deal a network to exits: balance, nothing at all, one exit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from started_fission import started
from torch import nn

from benchmark.config import Recipe
from benchmark.cost import predict_flops
from benchmark.method import Task
from benchmark.options import build
from methods import METHODS
from methods.fission import branch_parts
from methods.masks import deal_in_parts
from methods.nfe import Nfe


def convolutions(module: nn.Module) -> dict[str, Any]:
    return {name: conv for name, conv in module.named_modules() if isinstance(conv, nn.Conv2d)}


# Balance


@pytest.mark.parametrize(
    ("exit_parts", "num_groups", "expected"),
    [
        ((1, 1), 3, [(1,), (1, 1), (1, 1)]),
        ((1, 1, 1), 3, [(1,), (1, 1), (1, 1, 1)]),
        ((1, 2), 3, [(1,), (1, 2), (1, 2)]),
        ((1, 1, 2), 3, [(1,), (2, 3), (1, 1, 2)]),
        ((2, 1, 1), 3, [(1,), (2, 1), (2, 1, 1)]),
        ((1, 1, 1, 3), 4, [(1,), (3, 5), (1, 1, 2), (1, 1, 1, 3)]),
        ((1,), 3, [(1,), (1,), (1,)]),
        ((1, 1, 1, 1, 1), 3, [(1,), (1, 1), (1, 1, 1, 1, 1)]),
    ],
)
def test_a_branch_on_the_way_to_several_exits_has_the_mean_of_their_parts(
    exit_parts: tuple[int, ...], num_groups: int, expected: list[tuple[int, ...]]
) -> None:
    assert branch_parts(exit_parts, num_groups) == expected


@pytest.mark.parametrize(
    ("balance", "shares"),
    [
        ("1:2", [(1,), (1 / 3, 2 / 3), (1 / 3, 2 / 3)]),
        ("1:3", [(1,), (1 / 4, 3 / 4), (1 / 4, 3 / 4)]),
        ("1:1:2", [(1,), (2 / 5, 3 / 5), (1 / 4, 1 / 4, 1 / 2)]),
        (None, [(1,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3)]),
    ],
)
def test_groups_have_their_shares_of_every_layers_kept_weights(
    balance: str | None, shares: list[tuple[float, ...]], task_of: Callable[..., Task], recipe: Recipe
) -> None:
    method = Nfe(num_members=len(shares[-1]), balance=balance, sparsity=0.4, pruning="random")
    network = started(method, task_of(), recipe)
    for branches, expected in zip(network.groups, shares, strict=True):
        for name, conv in convolutions(branches[0]).items():
            parts = [convolutions(branch)[name].keep for branch in branches]
            num_kept = int((conv.weight != 0).sum())
            assert [int(part.sum()) for part in parts] == pytest.approx([num_kept * s for s in expected], abs=1)
            assert torch.equal(sum(part.int() for part in parts), (conv.weight != 0).int())


def test_parts_are_dealt_at_random() -> None:
    torch.manual_seed(0)
    kept = torch.rand(64, 32, 3, 3) < 0.6
    first, second = deal_in_parts(kept, (1, 3)), deal_in_parts(kept, (1, 3))
    assert torch.equal(first >= 0, kept)
    agreeing = (first[kept] == second[kept]).double().mean().item()
    assert agreeing == pytest.approx(1 / 16 + 9 / 16, abs=0.02)


# Nothing dealt


@pytest.mark.parametrize("num_exits", [2, 3])
def test_dense_branches_share_nothing_and_miss_nothing(
    num_exits: int, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of()
    network, single = started(Nfe(num_members=num_exits, grouping="dense"), task, recipe), task.network()
    for branches, group in zip(network.groups, single.groups, strict=True):
        assert all(
            [p.shape for p in branch.parameters()] == [p.shape for p in group.parameters()] for branch in branches
        )
    parameters = [p for p in network.parameters() if p.dim() > 1]
    assert sum(len(list(branches)) for branches in network.groups) == {2: 5, 3: 6}[num_exits]
    for i, first in enumerate(parameters):
        for second in parameters[:i]:
            assert first.shape != second.shape or not torch.equal(first, second), "drawn apart"
    assert all(bool((p != 0).all()) for p in parameters)
    assert not any("keep" in name or "mask" in name for name, _ in network.named_buffers())


def test_dense_branches_execute_what_masked_ones_do(task_of: Callable[..., Task], recipe: Recipe) -> None:
    counts = []
    for grouping in ("dense", "weights"):
        method, task = Nfe(num_members=3, grouping=grouping), task_of()  # type: ignore[arg-type]
        counts.append(predict_flops(method, {"main": started(method, task, recipe).eval()}, task))
    assert counts[0].executed == counts[1].executed
    assert counts[0].nonzero == pytest.approx(counts[0].executed)
    assert counts[1].nonzero < 0.6 * counts[1].executed


# One exit


@pytest.mark.parametrize("grouping", ["weights", "channels", "dense"])
def test_one_exit_is_the_single_network(
    grouping: Any, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task, method = task_of(dtype=torch.float64), Nfe(num_members=1, grouping=grouping)
    network = started(method, task, recipe)
    torch.manual_seed(0)
    single = task.network()
    x_SBCHW, y_SBK = batch_of(1, 6, torch.float64)
    logits_BK = single(x_SBCHW[0])
    torch.testing.assert_close(network(x_SBCHW[0]), logits_BK[None])
    loss = method.loss(network, x_SBCHW, y_SBK, 0.0)
    expected = -(y_SBK[0] * logits_BK.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss, expected)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in single.parameters())


def test_one_exit_is_a_pruned_network_that_stays_pruned(fit: Callable[..., Any], recipe: Recipe) -> None:
    _, done = fit(Nfe(num_members=1, sparsity=0.7, snip_images=16), recipe)
    convs = convolutions(done["main"]).values()
    assert sum(int((c.weight != 0).sum()) for c in convs) == round(0.3 * sum(c.weight.numel() for c in convs))


# Wrong options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": "1:2"}, "nfe: balance 1:2 has 2 parts for 3 exits"),
        ({"balance": "0:1:1"}, r"nfe: balance: string should match pattern .*, not '0:1:1'"),
        ({"balance": "1"}, r"nfe: balance: string should match pattern .*, not '1'"),
        ({"balance": 2}, "nfe: balance: input should be a valid string, not 2"),
        ({"grouping": "layers"}, r"nfe: grouping: input should be 'weights', 'channels' or 'dense', not 'layers'"),
        ({"grouping": "dense", "sparsity": 0.5}, "nfe: grouping: dense keeps all weights; drop sparsity and balance"),
        ({"grouping": "dense", "balance": "1:1:2"}, "nfe: grouping: dense keeps all weights; .*"),
        ({"grouping": "channels", "variant": "released"}, "nfe: variant, .* differ for grouping: weights alone"),
        ({"grouping": "dense", "pointwise": "whole"}, "nfe: variant, .* differ for grouping: weights alone"),
        ({"num_members": 4, "variant": "released"}, "nfe: group_draws: independent .* takes up to 3 exits and .*"),
        ({"balance": "1:1:2", "group_draws": "independent"}, "nfe: group_draws: independent .*"),
        ({"num_members": 0}, "nfe: num_members: input should be greater than or equal to 1, not 0"),
    ],
)
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build("method", METHODS, "nfe", options)


def test_finer_options_lift_what_the_released_variant_forbids() -> None:
    assert build("method", METHODS, "nfe", {"num_members": 4, "variant": "released", "group_draws": "partition"})
