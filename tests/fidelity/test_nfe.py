"""Network Fission Ensembles: disjoint weight groups of one network, an exit each (2408.02301)."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from started_fission import started
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.method import Task
from methods.distillation import distillation_loss
from methods.masks import KeptConv2d, deal
from methods.nfe import Nfe

WIDE = {"name": "wide_resnet", "depth": 10, "width": 1}
BACKBONES = [WIDE, {"name": "resnet", "depth": 18}, {"name": "preact_resnet"}]
NAMES = [backbone["name"] for backbone in BACKBONES]


def convolutions(module: nn.Module) -> dict[str, KeptConv2d]:
    return {name: conv for name, conv in module.named_modules() if isinstance(conv, KeptConv2d)}


def path_of(exit_: int, num_branches: list[int]) -> list[int]:
    """Branch of an exit in each group: its own number, or the last where there are fewer branches."""
    return [min(exit_, count - 1) for count in num_branches]


@pytest.mark.parametrize(
    ("name", "num_exits", "expected"),
    [
        ("wide_resnet", 2, [1, 2, 2]),
        ("wide_resnet", 3, [1, 2, 3]),
        ("wide_resnet", 4, [1, 2, 4]),
        ("wide_resnet", 5, [1, 2, 5]),
        ("resnet", 2, [1, 2, 2, 2]),
        ("resnet", 3, [1, 2, 3, 3]),
        ("resnet", 4, [1, 2, 3, 4]),
        ("resnet", 5, [1, 2, 3, 5]),
        ("preact_resnet", 2, [1, 2, 2, 2]),
        ("preact_resnet", 3, [1, 2, 3, 3]),
        ("preact_resnet", 4, [1, 2, 3, 4]),
        ("preact_resnet", 5, [1, 2, 3, 5]),
    ],
)
def test_every_number_of_exits_works_on_every_backbone(
    name: str, num_exits: int, expected: list[int], task_of: Callable[..., Task], recipe: Recipe
) -> None:
    method = Nfe(num_members=num_exits)
    network = started(method, task_of(**BACKBONES[NAMES.index(name)]), recipe).eval()
    assert [len(branches) for branches in network.groups] == expected
    assert len(network.heads) == num_exits
    x_BCHW = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        logits_MBK = method.predict({"main": network}, x_BCHW)
        for n, path in enumerate(path_of(n, expected) for n in range(num_exits)):
            features = network.stem(x_BCHW)
            for branches, i in zip(network.groups, path, strict=True):
                features = branches[i](features)
            torch.testing.assert_close(logits_MBK[n], network.heads[n](features))
    assert not torch.allclose(logits_MBK[0], logits_MBK[-1])


@pytest.mark.parametrize(("num_exits", "sparsity", "pruning"), [(2, 0.0, "snip"), (3, 0.5, "snip"), (4, 0.7, "random")])
@pytest.mark.parametrize("backbone", BACKBONES[:2], ids=NAMES[:2])
def test_branches_hold_disjoint_weights_and_together_the_kept_ones(
    backbone: dict[str, Any],
    num_exits: int,
    sparsity: float,
    pruning: Any,
    task_of: Callable[..., Task],
    recipe: Recipe,
) -> None:
    method = Nfe(num_members=num_exits, sparsity=sparsity, pruning=pruning, snip_images=8)
    task = task_of(**backbone)
    network = started(method, task, recipe)
    num_weights = num_kept = 0
    shortcuts = set()
    for branches in network.groups:
        for name, conv in convolutions(branches[0]).items():
            parts = [convolutions(branch)[name] for branch in branches]
            assert all(part.weight is conv.weight for part in parts), "stored once"
            holders = sum(part.keep.int() for part in parts)
            assert torch.equal(holders, (conv.weight != 0).int()), name
            sizes = [int(part.keep.sum()) for part in parts]
            assert max(sizes) - min(sizes) <= 1, name
            num_weights, num_kept = num_weights + holders.numel(), num_kept + int(holders.sum())
            shortcuts |= {name} if conv.kernel_size == (1, 1) and len(branches) > 1 else set()
    assert shortcuts, "1x1 shortcuts are split too"
    num_weights, num_kept = num_weights + network.stem.weight.numel(), num_kept + int(network.stem.keep.sum())
    assert num_weights == sum(m.weight.numel() for m in task.network().modules() if isinstance(m, nn.Conv2d))
    assert abs(num_kept - (1 - sparsity) * num_weights) <= 1


def test_groups_are_dealt_at_random() -> None:
    torch.manual_seed(0)
    kept = torch.rand(64, 32, 3, 3) < 0.6
    first, second = deal(kept, 3), deal(kept, 3)
    assert torch.equal(first >= 0, kept)
    agreeing = (first[kept] == second[kept]).double().mean().item()
    assert agreeing == pytest.approx(1 / 3, abs=0.02)
    for group in range(3):
        per_row = ((first == group).flatten(1).sum(1) / kept.flatten(1).sum(1)).double()
        assert (per_row - 1 / 3).abs().max() < 0.2, "spread over all output channels"


@pytest.mark.parametrize("pruning", ["snip", "random"])
def test_pruned_weights_stay_exactly_zero_under_momentum_and_decay(
    pruning: Any, fit: Callable[..., Any], recipe: Recipe
) -> None:
    method = Nfe(num_members=3, sparsity=0.6, pruning=pruning, snip_images=16)
    trainer, done = fit(method, recipe)
    network = done["main"]
    assert trainer.ledger.history[-1]["epoch"] == 2
    num_zero = num_weights = 0
    for weight in {id(c.weight): c.weight for c in convolutions(network).values()}.values():
        holders = [c.keep for c in convolutions(network).values() if c.weight is weight]
        is_kept = torch.stack(holders).any(0)
        assert torch.equal(weight != 0, is_kept), "zero where pruned, trained where kept"
        num_zero, num_weights = num_zero + int((~is_kept).sum()), num_weights + weight.numel()
    assert abs(num_zero - 0.6 * num_weights) <= 1


@pytest.mark.parametrize(("num_exits", "backbone"), [(2, WIDE), (3, WIDE), (5, WIDE), (4, BACKBONES[2])])
@pytest.mark.parametrize("loss", ["cross_entropy", "distillation"])
def test_no_gradient_of_one_exit_reaches_another_exits_own_weights(
    num_exits: int,
    backbone: dict[str, Any],
    loss: str,
    task_of: Callable[..., Task],
    batch_of: Callable[..., Any],
    recipe: Recipe,
) -> None:
    network = started(Nfe(num_members=num_exits), task_of(**backbone), recipe)
    x_SBCHW, y_SBK = batch_of(1, 4)
    num_branches = [len(branches) for branches in network.groups]
    for n in range(num_exits):
        network.zero_grad(set_to_none=True)
        logits_MBK = network(x_SBCHW[0])
        # The distillation of exit n alone: other exits' logits are constants, in the teacher and as students.
        others = torch.zeros(num_exits, 1, 1).index_fill(0, torch.tensor(n), 1.0)
        only_n = logits_MBK * others + logits_MBK.detach() * (1 - others)
        if loss == "cross_entropy":
            F.cross_entropy(logits_MBK[n], y_SBK[0]).backward()
        else:
            distillation_loss(only_n, 3.0).backward()
        assert network.stem.weight.grad.abs().max() > 0, "the stem is common to all"
        path = path_of(n, num_branches)
        for branches, own in zip(network.groups, path, strict=True):
            for i, branch in enumerate(branches):
                for conv in convolutions(branch).values():
                    reached = conv.weight.grad[conv.keep].abs().max().item()
                    assert (reached > 0) == (i == own)
                norms = [m for m in branch.modules() if isinstance(m, nn.BatchNorm2d)]
                gradients = [norm.weight.grad for norm in norms]
                assert all((g is not None and bool((g != 0).any())) == (i == own) for g in gradients)
        for i, head in enumerate(network.heads):
            gradients = [p.grad for p in head.parameters()]
            assert all((g is not None and bool((g != 0).any())) == (i == n) for g in gradients)


def test_without_distillation_an_exits_own_gradient_is_deaf_to_other_exits(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    method = Nfe(num_members=3, distillation=False)
    network = started(method, task_of(dtype=torch.float64), recipe)
    batch = batch_of(1, 4, torch.float64)
    own = [*network.heads[0].parameters(), *(p for p in network.groups[2][0].parameters() if p.dim() == 1)]

    def gradient() -> list[Tensor]:
        return list(torch.autograd.grad(method.loss(network, *batch, 0.0), own))

    before = gradient()
    with torch.no_grad():
        for other in (network.heads[1], network.heads[2], network.groups[2][1][0].norm1):
            for parameter in other.parameters():
                parameter.add_(0.5)
    for g, h in zip(before, gradient(), strict=True):
        torch.testing.assert_close(g, h, rtol=1e-5, atol=1e-8)


def by_hand(logits_MBK: list[list[list[float]]], temperature: float) -> float:
    """T² sum_m mean_b sum_k q (log q - log p_m), q of the mean logits, in plain loops."""

    def softmax(logits: list[float]) -> list[float]:
        powers = [math.exp(z / temperature) for z in logits]
        return [power / sum(powers) for power in powers]

    total, num_images = 0.0, len(logits_MBK[0])
    for b in range(num_images):
        mean = [sum(member[b][k] for member in logits_MBK) / len(logits_MBK) for k in range(len(logits_MBK[0][0]))]
        teacher = softmax(mean)
        for member in logits_MBK:
            student = softmax(member[b])
            total += sum(q * math.log(q / p) for q, p in zip(teacher, student, strict=True)) / num_images
    return temperature**2 * total


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_loss_and_its_gradient_by_hand(temperature: float) -> None:
    torch.manual_seed(0)
    logits_MBK = (2 * torch.randn(3, 5, 4, dtype=torch.float64)).requires_grad_()
    loss = distillation_loss(logits_MBK, temperature)
    assert loss.item() == pytest.approx(by_hand(logits_MBK.tolist(), temperature), rel=1e-12)
    # d/dz_m of T² KL(q || softmax(z_m / T)) with q constant is T (softmax(z_m / T) - q). A teacher that isn't held
    # constant adds nothing: sum_m (log q - log p_m) is the same for all classes, as z_E is the mean of all z_m.
    [gradient] = torch.autograd.grad(loss, logits_MBK)
    teacher = (logits_MBK.mean(0) / temperature).softmax(-1)
    closed_form = temperature * ((logits_MBK / temperature).softmax(-1) - teacher) / 5
    torch.testing.assert_close(gradient, closed_form.detach())


@pytest.mark.parametrize("distillation", [True, False])
def test_loss_is_the_sum_over_exits_of_cross_entropy_and_distillation(
    distillation: bool, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    method = Nfe(num_members=3, distillation=distillation, temperature=3.0)
    network = started(method, task_of(dtype=torch.float64), recipe)
    x_SBCHW, y_SBK = batch_of(1, 5, torch.float64)
    logits = network(x_SBCHW[0]).tolist()
    expected = by_hand(logits, 3.0) if distillation else 0.0
    for member in logits:
        for z_K, y_K in zip(member, y_SBK[0].tolist(), strict=True):
            log_sum = math.log(sum(map(math.exp, z_K)))
            expected += sum(y * (log_sum - z) for y, z in zip(y_K, z_K, strict=True)) / 5
    assert method.loss(network, x_SBCHW, y_SBK, 0.0).item() == pytest.approx(expected, rel=1e-5)
