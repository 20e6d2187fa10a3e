"""Pruning at initialisation for Network Fission Ensembles: SNIP's scores (1810.02340, equation 6) and what they keep."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.method import Task
from methods.masks import KeptConv2d, keep_highest
from methods.nfe import Nfe, snip_scores


def test_snip_scores_of_a_linear_network_are_the_closed_form() -> None:
    class OneLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(6, 4, 1, bias=False)

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return self.conv(x_BCHW).flatten(1)

    torch.manual_seed(0)
    network = OneLayer().double()
    x_BCHW, y_B = torch.randn(7, 6, 1, 1, dtype=torch.float64), torch.arange(7) % 4
    scores = snip_scores(network, x_BCHW, y_B)["conv"].detach().numpy()[:, :, 0, 0]
    weight, x_BI = network.conv.weight.detach().numpy()[:, :, 0, 0], x_BCHW.numpy()[:, :, 0, 0]
    powers = np.exp(x_BI @ weight.T)
    p_BK = powers / powers.sum(1, keepdims=True)
    # Cross-entropy's gradient is p - 1 at the label and p elsewhere; -1 and 0 (released code) would be another score.
    gradient = np.zeros_like(weight)
    for b in range(7):
        for k in range(4):
            gradient[k] += (p_BK[b, k] - int(k == y_B[b])) * x_BI[b] / 7
    np.testing.assert_allclose(scores, np.abs(weight * gradient), rtol=1e-10)
    assert network.conv.weight.grad is None


def test_snip_scores_are_what_a_weights_removal_changes_to_first_order(task_of: Callable[..., Task]) -> None:
    """|dL/dc| of a gate c on one weight, by central differences in float64, batch norm in training mode."""
    torch.manual_seed(0)
    task = task_of(dtype=torch.float64)
    network = task.network(conv=KeptConv2d)
    x_BCHW, y_B = task.train_batch(6)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    scores = snip_scores(network, x_BCHW, y_B)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items()), "scored on a copy"
    named = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    assert scores.keys() == named.keys(), "all convolutions and not the classifier"
    step = 1e-5
    for name, module in named.items():
        for index in (0, module.weight.numel() // 2, module.weight.numel() - 1):
            place = np.unravel_index(index, module.weight.shape)
            original, losses = module.weight.data[place].item(), []
            for gate in (1 + step, 1 - step):
                module.weight.data[place] = gate * original
                with torch.no_grad():
                    losses.append(F.cross_entropy(network.train()(x_BCHW), y_B).item())
            module.weight.data[place] = original
            slope = abs(losses[0] - losses[1]) / (2 * step)
            assert scores[name][place].item() == pytest.approx(slope, rel=1e-3, abs=1e-8), name


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.9])
def test_the_globally_highest_scores_are_kept(sparsity: float, task_of: Callable[..., Task], recipe: Recipe) -> None:
    task, method = task_of(), Nfe(num_members=2, sparsity=sparsity, snip_images=16)
    torch.manual_seed(3)
    plain = task.network(conv=KeptConv2d).train()
    torch.manual_seed(3)
    [stage] = method.stages(task, recipe)
    network = method.start(stage, task, {})
    F.cross_entropy(plain(task.train_batch(16)[0]), task.train_batch(16)[1]).backward()
    scores = {name: (m.weight * m.weight.grad).abs() for name, m in plain.named_modules() if isinstance(m, KeptConv2d)}
    flat = np.sort(torch.cat([score.flatten() for score in scores.values()]).detach().numpy())
    num_pruned = round(sparsity * len(flat))
    threshold = (flat[num_pruned - 1] + flat[num_pruned]) / 2
    wrong = 0
    for name, score in scores.items():
        # groups.2.0.conv1 of the backbone is groups.2.<branch>.0.conv1 here, one weight for all branches.
        parts = name.split(".")
        conv = network.get_submodule(".".join([*parts[:2], "0", *parts[2:]]) if parts[0] == "groups" else name)
        wrong += int(((conv.weight != 0) != (score > threshold)).sum())
        kept = conv.weight != 0
        assert torch.equal(conv.weight[kept], plain.get_submodule(name).weight[kept]), "kept weights are as initialised"
    assert wrong <= 2, "but for ties and rounding"
    assert len({round(float((score > threshold).double().mean()), 2) for score in scores.values()}) > 3, "not per layer"


@pytest.mark.parametrize("pruning", ["snip", "random"])
@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.5, 0.95, 0.999])
def test_the_sparsity_asked_for_is_the_sparsity_got(
    sparsity: float, pruning: Any, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    method, task = Nfe(num_members=2, sparsity=sparsity, pruning=pruning, snip_images=8), task_of()
    [stage] = method.stages(task, recipe)
    network = method.start(stage, task, {})
    weights = {id(m.weight): m.weight for m in network.modules() if isinstance(m, KeptConv2d)}.values()
    total = sum(weight.numel() for weight in weights)
    assert abs(sum(int((weight == 0).sum()) for weight in weights) - sparsity * total) <= 1


def test_ties_do_not_change_how_many_are_kept() -> None:
    scores = {"a": torch.zeros(10, 3), "b": torch.zeros(7), "c": torch.ones(3)}
    keep = keep_highest(scores, 0.5)
    assert sum(int(mask.sum()) for mask in keep.values()) == 20
    assert keep["c"].all()


def test_random_pruning_spares_no_layer(task_of: Callable[..., Task], recipe: Recipe) -> None:
    method, task = Nfe(num_members=2, sparsity=0.5, pruning="random"), task_of()
    [stage] = method.stages(task, recipe)
    torch.manual_seed(0)
    network = method.start(stage, task, {})
    for conv in (m for m in network.modules() if isinstance(m, KeptConv2d)):
        density = (conv.weight != 0).double().mean().item()
        assert density == pytest.approx(0.5, abs=4 * 0.5 / conv.weight.numel() ** 0.5)
