"""Network Fission Ensembles as their released code does them (hjdw2/NFE), and in what that differs from the paper."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from started_fission import started
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.method import Task
from methods.fission import FissionNetwork
from methods.masks import GradientMaskedConv2d, KeptConv2d
from methods.nfe import Nfe

PATHS = {1: [(0, 0, 0)], 2: [(0, 0, 0), (0, 1, 1)], 3: [(0, 0, 0), (0, 1, 1), (0, 1, 2)]}
"""Branch of each exit in each of three groups of layers: exit 1 parts first, exits 2 and 3 last."""


def masked(module: nn.Module) -> dict[str, GradientMaskedConv2d]:
    return {name: conv for name, conv in module.named_modules() if isinstance(conv, GradientMaskedConv2d)}


def same_place(network: FissionNetwork, group: int) -> list[list[GradientMaskedConv2d]]:
    """The convolutions of one group of layers, by place: one of each branch."""
    branches = network.groups[group]
    assert isinstance(branches, nn.ModuleList)
    places = [list(convs) for convs in zip(*(masked(branch).values() for branch in branches), strict=True)]
    assert places, "every branch owns its weights"
    return places


def explicit_logits(network: FissionNetwork, x_BCHW: Tensor, path: tuple[int, ...], exit_: int) -> Tensor:
    """One exit of a wide residual network in training mode, written out: masked weights for the paper, all if released."""

    def convolve(conv: Any, x: Tensor) -> Tensor:
        weight = conv.weight * conv.keep if isinstance(conv, KeptConv2d) else conv.weight
        return F.conv2d(x, weight, stride=conv.stride, padding=conv.kernel_size[0] // 2)

    def normalise(norm: Any, x: Tensor) -> Tensor:
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
        scale, shift = norm.weight[:, None, None], norm.bias[:, None, None]
        return scale * (x - mean) / (variance + norm.eps).sqrt() + shift

    h = convolve(network.stem, x_BCHW)
    for branches, branch in zip(network.groups, path, strict=True):
        for block in branches[branch]:
            a = normalise(block.norm1, h).clamp(min=0)
            residual = convolve(block.conv2, normalise(block.norm2, convolve(block.conv1, a)).clamp(min=0))
            h = residual + (h if block.shortcut is None else convolve(block.shortcut, a))
    head = network.heads[exit_]
    pooled = normalise(head.norm, h).clamp(min=0).mean(dim=(2, 3))
    return pooled @ head.classifier.weight.T + head.classifier.bias


@pytest.mark.parametrize("sparsity", [0.0, 0.6])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("num_exits", [1, 2, 3])
def test_forward_pass_is_the_written_out_one(
    num_exits: int,
    variant: Any,
    sparsity: float,
    task_of: Callable[..., Task],
    batch_of: Callable[..., Any],
    recipe: Recipe,
) -> None:
    method = Nfe(num_members=num_exits, sparsity=sparsity, snip_images=8, variant=variant)
    network = started(method, task_of(dtype=torch.float64), recipe).train()
    x_BCHW = batch_of(1, 4, torch.float64)[0][0]
    logits_MBK = network(x_BCHW)
    for n, path in enumerate(PATHS[num_exits]):
        torch.testing.assert_close(logits_MBK[n], explicit_logits(network, x_BCHW, path, n))


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_gradients_are_finite_differences_and_in_the_released_code_times_the_mask(
    variant: Any, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    """In float64, batch norm in training mode. At a mask of -1 the gradient has the wrong sign; at 0 it is none."""
    method = Nfe(num_members=3, sparsity=0.3, snip_images=8, distillation=False, variant=variant)
    network = started(method, task_of(dtype=torch.float64), recipe).train()
    batch = batch_of(1, 4, torch.float64)

    def loss() -> Tensor:
        return method.loss(network, *batch, 0.0)

    loss().backward()
    step, signs_seen = 1e-8, set()  # with a larger one ReLUs switch
    convs = [m for m in network.named_modules() if isinstance(m[1], KeptConv2d | GradientMaskedConv2d)]
    for name, conv in convs:
        if isinstance(conv, KeptConv2d):
            sharing = [other.keep for _, other in convs if other.weight is conv.weight]
            factor = torch.stack(sharing).any(0).int()
        else:
            factor = conv.mask
        for sign in factor.unique().tolist():
            place = tuple((factor == sign).nonzero()[0].tolist())
            original, losses = conv.weight.data[place].item(), []
            for change in (step, -step):
                conv.weight.data[place] = original + change
                losses.append(loss().item())
            conv.weight.data[place] = original
            slope = (losses[0] - losses[1]) / (2 * step)
            assert conv.weight.grad[place].item() == pytest.approx(sign * slope, rel=1e-4, abs=1e-6), name
            signs_seen.add(sign)
            if variant == "released" and sign == 0 and conv.kernel_size == (3, 3):
                assert abs(slope) > 1e-7, "the loss does depend on what the mask hides"
    assert signs_seen == ({0, 1} if variant == "paper" else {-1, 0, 1})


def test_three_groups_overlap_in_a_ninth_where_the_second_exits_sign_is_flipped(
    task_of: Callable[..., Task], recipe: Recipe
) -> None:
    network = started(Nfe(num_members=3, variant="released"), task_of(width=4), recipe)
    masks = [
        torch.cat([conv.mask.flatten() for conv in convs if conv.kernel_size == (3, 3)])
        for convs in zip(*same_place(network, 2), strict=True)
    ]
    first, second, last = masks
    shares = {value: (second == value).double().mean().item() for value in (-1, 0, 1)}
    assert shares == pytest.approx({-1: 1 / 9, 0: 4 / 9, 1: 4 / 9}, abs=0.005)
    assert set(first.tolist()) == set(last.tolist()) == {0, 1}
    assert [mask.double().mean().item() for mask in (first, last)] == pytest.approx([1 / 3, 1 / 3], abs=0.005)
    assert torch.equal(second == -1, (first == 1) & (last == 1)), "where the two others both learn"
    assert torch.equal(first + second + last, torch.ones_like(first)), "1 as a sum, signs counted"
    assert sum((mask != 0).double().mean().item() for mask in masks) == pytest.approx(11 / 9, abs=0.01)


@pytest.mark.parametrize(("num_exits", "group"), [(2, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_two_groups_are_a_partition_of_what_is_kept_in_random_sizes(
    num_exits: int, group: int, sparsity: float, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    method = Nfe(num_members=num_exits, sparsity=sparsity, pruning="random", variant="released")
    network = started(method, task_of(), recipe)
    unequal = 0
    for first, second in same_place(network, group):
        if first.kernel_size == (3, 3):
            kept = first.mask + second.mask
            assert set(kept.unique().tolist()) <= {0, 1}
            assert kept.double().mean().item() == pytest.approx(1 - sparsity, abs=0.05)
            share = first.mask.sum().item() / kept.sum().item()
            assert share == pytest.approx(0.5, abs=0.05)
            unequal += abs(int(first.mask.sum()) - int(second.mask.sum())) > 1
    assert unequal > 0, "drawn position by position"


def test_a_partition_of_owned_weights_has_equal_parts(task_of: Callable[..., Task], recipe: Recipe) -> None:
    network = started(Nfe(num_members=3, variant="released", group_draws="partition"), task_of(), recipe)
    for convs in same_place(network, 2):
        if convs[0].kernel_size == (3, 3):
            sizes = [int(conv.mask.sum()) for conv in convs]
            assert max(sizes) - min(sizes) <= 1
            assert torch.equal(torch.stack([conv.mask for conv in convs]).sum(0), torch.ones_like(convs[0].mask))


@pytest.mark.parametrize("num_exits", [2, 3])
def test_every_branch_owns_its_weights_and_pointwise_ones_are_whole(
    num_exits: int, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    method = Nfe(num_members=num_exits, sparsity=0.5, snip_images=8, variant="released")
    network = started(method, task_of(), recipe)
    convs = list(masked(network).values())
    assert len({id(conv.weight) for conv in convs}) == len(convs)
    first, second = (next(iter(masked(branch).values())).weight for branch in network.groups[1])
    assert not torch.equal(first, second), "drawn apart"
    pointwise = [conv for conv in convs if conv.kernel_size == (1, 1)]
    assert len(pointwise) == sum(len(branches) for branches in network.groups) - 1  # none in the first group at width 1
    assert all(bool((conv.mask == 1).all()) for conv in pointwise)
    assert all(bool((conv.mask == 0).any()) for conv in convs if conv.kernel_size == (3, 3)), "the stem too is pruned"
    assert all(bool((conv.weight != 0).all()) for conv in convs), "nothing is zero: the forward pass is dense"


def decayed(num_steps: int, learning_rate: float, momentum: float, weight_decay: float) -> float:
    """What Nesterov momentum and weight decay leave of a weight without a gradient, by recursion."""
    weight, velocity = 1.0, 0.0
    for _ in range(num_steps):
        pull = weight_decay * weight
        velocity = momentum * velocity + pull
        weight -= learning_rate * (pull + momentum * velocity)
    return weight


def test_masked_weights_keep_83_percent_after_one_epoch_and_are_gone_after_40() -> None:
    parameter = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    kept = {}
    for step in range(1, 40 * 391 + 1):
        parameter.grad = torch.zeros((), dtype=torch.float64)
        optimizer.step()
        if step % 391 == 0:
            kept[step // 391] = parameter.item()
    for epoch, share in {1: 0.83, 5: 0.38, 10: 0.14, 20: 0.02, 40: 0.0004}.items():
        assert kept[epoch] == pytest.approx(share, rel=0.03, abs=0.00005)
        assert kept[epoch] == pytest.approx(decayed(epoch * 391, 0.1, 0.9, 5e-4), rel=1e-9)


def test_pruned_weights_are_not_zero_after_a_step_and_decay_as_weight_decay_says(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], train: Callable[..., None], recipe: Recipe
) -> None:
    method, task = Nfe(num_members=3, sparsity=0.5, snip_images=8, variant="released"), task_of(dtype=torch.float64)
    network = started(method, task, recipe)
    before = {name: conv.weight.detach().clone() for name, conv in masked(network).items()}
    [stage] = method.stages(task, recipe)
    for num_steps in (1, 12):
        trained = copy.deepcopy(network)
        train(method, stage, trained, [batch_of(1, 8, torch.float64, seed=i) for i in range(num_steps)])
        left = decayed(num_steps, recipe.learning_rate, recipe.momentum, recipe.weight_decay)
        assert 0.9 < left < 1
        for name, conv in masked(trained).items():
            hidden = conv.mask == 0
            assert bool((conv.weight[hidden] != 0).all()), name
            torch.testing.assert_close(conv.weight[hidden], left * before[name][hidden])
            moved = (conv.weight - left * before[name]).abs() > 1e-9
            assert moved[~hidden].double().mean() > 0.9, name


def test_zeroed_weights_of_independent_groups_stay_zero(fit: Callable[..., Any], recipe: Recipe) -> None:
    """The released code, were its line that zeroes pruned weights ever run."""
    method = Nfe(num_members=3, sparsity=0.5, snip_images=8, variant="released", pruned_weights="zero")
    _, done = fit(method, recipe)
    convs = masked(done["main"])
    assert convs
    assert all(torch.equal(conv.weight == 0, conv.mask == 0) for conv in convs.values())
    assert any(bool((conv.mask == -1).any()) for conv in convs.values())


def test_copies_of_a_network_mask_their_gradients_too(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    method = Nfe(num_members=2, variant="released")
    network = copy.deepcopy(started(method, task_of(), recipe))
    method.loss(network, *batch_of(1, 4), 0.0).backward()
    for conv in masked(network).values():
        assert bool((conv.weight.grad[conv.mask == 0] == 0).all())
