"""Pruning at initialisation for Network Fission Ensembles: SNIP (1810.02340), as its paper and as released code has it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.method import Task
from methods.masks import GradientMaskedConv2d, KeptConv2d, conv_weights, keep_highest
from methods.nfe import Nfe
from methods.pruning import SnipScoring, shuffle_within_layers, snip_scores, spare_pointwise

CRITERIA = ["snip", "snip_densities", "grasp", "synflow", "random"]


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


@pytest.mark.parametrize("pruning", CRITERIA)
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


def test_random_weights_with_snips_densities_are_as_many_in_each_layer_and_others() -> None:
    torch.manual_seed(0)
    keep = {"a": torch.rand(20, 10, 3, 3) < 0.2, "b": torch.rand(20, 20, 3, 3) < 0.7}
    shuffled, again = shuffle_within_layers(keep), shuffle_within_layers(keep)
    for name, mask in keep.items():
        assert shuffled[name].sum() == mask.sum()
        density = mask.double().mean().item()
        for other in (mask, again[name]):
            by_chance = density**2 + (1 - density) ** 2
            assert (shuffled[name] == other).double().mean().item() == pytest.approx(by_chance, abs=0.03)


def test_the_criterion_with_snips_densities_follows_snip_in_numbers_alone(
    task_of: Callable[..., Task], recipe: Recipe
) -> None:
    kept = []
    for pruning in ("snip", "snip_densities"):
        method, task = Nfe(num_members=2, sparsity=0.8, pruning=pruning, snip_images=16), task_of()  # type: ignore[arg-type]
        [stage] = method.stages(task, recipe)
        torch.manual_seed(0)
        network = method.start(stage, task, {})
        kept.append([m.weight != 0 for m in network.modules() if isinstance(m, KeptConv2d)])
    assert [int(mask.sum()) for mask in kept[0]] == [int(mask.sum()) for mask in kept[1]]
    assert any(not torch.equal(mask, other) for mask, other in zip(*kept, strict=True))


def test_label_logit_scores_of_a_linear_network_are_the_closed_form() -> None:
    """The gradient at the outputs is -1/B at the label and 0 elsewhere, whatever is predicted."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(6, 4, 1, bias=False), nn.Flatten()).double()
    x_BCHW, y_B = torch.randn(7, 6, 1, 1, dtype=torch.float64), torch.arange(7) % 4
    scores = snip_scores(network, x_BCHW, y_B, SnipScoring("label_logit"))["0"][:, :, 0, 0]
    for k in range(4):
        of_label = x_BCHW[y_B == k, :, 0, 0].sum(0) / 7
        torch.testing.assert_close(scores[k], (network[0].weight[k, :, 0, 0] * of_label).abs().detach())
    assert not torch.allclose(scores, snip_scores(network, x_BCHW, y_B)["0"][:, :, 0, 0])


def test_redrawn_scores_are_those_of_xavier_normal_weights_and_forget_the_networks(
    task_of: Callable[..., Task],
) -> None:
    task = task_of(dtype=torch.float64)
    torch.manual_seed(0)
    network, other = task.network(), task.network()
    other.head.load_state_dict(network.head.state_dict())
    x_BCHW, y_B = task.train_batch(8)
    scores = []
    for scored in (network, other):
        torch.manual_seed(1)
        scores.append(snip_scores(scored, x_BCHW, y_B, SnipScoring(redrawn=True)))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in conv_weights(other).values():
            fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
            weight.copy_((2 / (fan_in + fan_out)) ** 0.5 * torch.randn(weight.shape))
    by_hand = snip_scores(other, x_BCHW, y_B)
    for name, score in scores[0].items():
        torch.testing.assert_close(score, scores[1][name])
        torch.testing.assert_close(score, by_hand[name], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "scoring"),
    [
        ({}, SnipScoring("label_logit", redrawn=True)),
        ({"snip_loss": "cross_entropy"}, SnipScoring("cross_entropy", redrawn=True)),
        ({"snip_network": "trained"}, SnipScoring("label_logit", redrawn=False)),
    ],
)
def test_the_variant_scores_as_its_options_say(
    options: dict[str, Any], scoring: SnipScoring, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of()
    method = Nfe(num_members=1, sparsity=0.5, snip_images=8, variant="released", **options)
    [stage] = method.stages(task, recipe)
    torch.manual_seed(0)
    network = method.start(stage, task, {})
    torch.manual_seed(0)
    plain = task.network()
    keep = spare_pointwise(keep_highest(snip_scores(plain, *task.train_batch(8), scoring), 0.5))
    convs = [m for m in network.modules() if isinstance(m, GradientMaskedConv2d)]
    for conv, mask in zip(convs, keep.values(), strict=True):
        assert torch.equal(conv.mask != 0, mask)
